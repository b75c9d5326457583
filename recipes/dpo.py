"""Align the student by preference pairs with NeMo: DPO-Positive, in which the chosen answer does not become less likely.

Run on a laptop    python recipes/dpo.py +model=tiny_pl experiment=laptop
DPO beside it      python recipes/dpo.py +model=tiny_pl experiment=laptop dpo.kind=dpo run.stage=dpo-plain
See first          python recipes/dpo.py +model=bielik11b experiment=minitron_7b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


@runs.recipe("dpo")
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.platforms import prepare  # heavy imports after validation

    prepare()
    from nemo_plugins.alignment import dpo

    dpo.PreferenceTraining(cfg, run).fit()


if __name__ == "__main__":
    main()
