"""Train a model from random weights with NeMo: how tiny_pl was made, and the from-scratch baseline of a student.

Run on a laptop    python recipes/pretrain.py +model=tiny_pl
See first          python recipes/pretrain.py +model=tiny_pl dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe
from nemo_plugins.planning import pretrain_plan


@runs.recipe("pretrain", plan=pretrain_plan.plan, reads=("model", "data", "pretrain", "platform.precision"), resumable=True)
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.training import pretrain  # heavy imports after validation

    pretrain.run(cfg, run)


if __name__ == "__main__":
    main()
