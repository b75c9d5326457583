"""Prune a teacher to a smaller student with NeMo's Minitron pruning.

Run on a laptop    python recipes/prune.py +model=tiny_pl
See first          python recipes/prune.py +model=bielik11b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


@runs.recipe("prune", before=runs.import_teacher)
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.platforms import prepare  # heavy imports after validation: a typo costs a second, not a minute

    prepare()
    from nemo_plugins.pruning import prune

    prune.run(cfg, run)


if __name__ == "__main__":
    main()
