"""Plan a student before a GPU is touched: its size, the memory, hours and disk of its distillation, and what can serve it.

Run anywhere       python recipes/plan.py +model=bielik11b
By a budget        python recipes/plan.py +model=bielik11b prune.budget.device=rtx4090
See first          python recipes/plan.py +model=bielik11b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


@runs.recipe("plan")
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.reporting import plan_report

    plan_report.run(cfg, run)


if __name__ == "__main__":
    main()
