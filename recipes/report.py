"""Write the report of a run: one page with lineage, curves, scores, recovery and answers, its pictures, and a model card.

Run on a laptop    python recipes/report.py +model=tiny_pl experiment=laptop
With others' work  python recipes/report.py +model=tiny_pl experiment=laptop report.results=[eq_bench.json,bfcl.csv]
See first          python recipes/report.py +model=bielik11b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe
from nemo_plugins.planning import report_plan


@runs.recipe("report", stale=report_plan.stale)
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.reporting import run_report  # pictures: slow to import

    run_report.run(cfg, run)


if __name__ == "__main__":
    main()
