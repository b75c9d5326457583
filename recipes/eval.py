"""Evaluate the models of a run, or any others, on a suite of tasks with lm-eval: scores, intervals, recovery.

Run on a laptop    python recipes/eval.py +model=tiny_pl experiment=laptop
Other models       python recipes/eval.py +model=tiny_pl '+eval.models={mine: folder/of/mine, other: folder/of/other}'
See first          python recipes/eval.py +model=bielik11b eval=open_pl eval.task_path=tasks dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe
from nemo_plugins.planning import eval_plan


@runs.recipe("eval", stale=eval_plan.stale)
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.evaluation import run as evaluation  # heavy imports after validation

    evaluation.run(cfg, run)


if __name__ == "__main__":
    main()
