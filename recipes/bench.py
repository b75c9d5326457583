"""Time teacher against student: first token, each token, tokens a second, memory, beside the bound of the bytes moved.

With bench.training=<stage> a few steps of a training, beside its plan (docs/clusters.md).

Run on a laptop    python recipes/bench.py +model=tiny_pl experiment=laptop
Before training    python recipes/bench.py +model=bielik11b bench.shapes=bielik11b,bielik7b bench.formats=[f16,q4_k_m]
A training         python recipes/bench.py +model=tiny_pl bench.training=distill
See first          python recipes/bench.py +model=tiny_pl experiment=laptop dry_run=true
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe

LISTS = re.compile(r"(bench\.(?:shapes|backends|formats))=([\w.-]+(?:,[\w.-]+)*)")  # a,b is a list here, not Hydra's sweep


@runs.recipe("bench", alone=lambda cfg: bool(cfg.bench.training))  # whose own recipe then starts the processes
def main(cfg: Recipe, run: runs.Run) -> None:
    if cfg.bench.training:
        from nemo_plugins.training.bench import run as measure  # heavy imports after validation
    else:
        from nemo_plugins.serving.bench import run as measure

    measure(cfg, run)


if __name__ == "__main__":
    if not {"--multirun", "-m"} & set(sys.argv):
        sys.argv[1:] = [LISTS.sub(r"\1=[\2]", word) if LISTS.fullmatch(word) else word for word in sys.argv[1:]]
    main()
