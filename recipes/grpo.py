"""Train the student on its own answers with rewards that can be checked: GRPO and its relatives on NeMo's trainer.

Run on a laptop    python recipes/grpo.py +model=tiny_pl experiment=laptop
Dr. GRPO beside    python recipes/grpo.py +model=tiny_pl experiment=laptop grpo.kind=dr_grpo run.stage=grpo-dr
See first          python recipes/grpo.py +model=bielik11b experiment=minitron_7b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


@runs.recipe("grpo")
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.platforms import prepare  # heavy imports after validation

    prepare()
    from nemo_plugins.alignment import grpo

    grpo.RewardTraining(cfg, run).fit()


if __name__ == "__main__":
    main()
