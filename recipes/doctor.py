"""What this machine has and lacks for each stage, with the remedy; a second, without torch. Exit code 2: it cannot be used.

Any machine        python recipes/doctor.py
A GPU node         python recipes/doctor.py platform=gpu platform.devices=8 run.root=/shared/runs
Nodes of a job     srun --ntasks-per-node=1 python recipes/doctor.py platform=gpu platform.devices=8 doctor.json=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


@runs.recipe("doctor")
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.platforms import doctor

    doctor.run(cfg)


if __name__ == "__main__":
    main()
