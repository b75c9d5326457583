"""Fine-tune the distilled student on dialogues with NeMo: loss on the assistant's words alone, windows packed without leaks.

Run on a laptop    python recipes/sft.py +model=tiny_pl experiment=laptop
See first          python recipes/sft.py +model=bielik11b experiment=minitron_7b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


@runs.recipe("sft")
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.platforms import prepare  # heavy imports after validation

    prepare()
    from nemo_plugins.alignment import sft

    sft.SupervisedFineTuning(cfg, run).fit()


if __name__ == "__main__":
    main()
