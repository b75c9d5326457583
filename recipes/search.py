"""Search for the student: rank candidates by held-out loss from one calibration, distil the best for a while.

Run on a laptop    python recipes/search.py +model=tiny_pl search.distill_steps=20
As a multirun      python recipes/search.py +model=tiny_pl --multirun 'search.only=[layers6-ffn768],[layers7-ffn512]'
See first          python recipes/search.py +model=bielik11b search.candidates=paper dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe
from nemo_plugins.planning import candidates


@runs.recipe("search", before=runs.import_teacher, alone=candidates.distils)
def main(cfg: Recipe, run: runs.Run) -> None:
    if candidates.distils(cfg):
        from nemo_plugins.pruning import shortlist

        shortlist.run(cfg, run)
    else:
        from nemo_plugins.platforms import prepare  # heavy imports after validation

        prepare()
        from nemo_plugins.pruning import search

        search.run(cfg, run)


if __name__ == "__main__":
    main()
