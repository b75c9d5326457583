"""Run a whole chain, each stage a process with a run folder of its own: teacher in, prune, distill, student out, baselines.

Run on a laptop    python recipes/minitron.py +model=tiny_pl experiment=laptop
See first          python recipes/minitron.py +model=bielik11b experiment=minitron_7b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe
from nemo_plugins.planning import chain_plan


@runs.recipe("minitron", plan=chain_plan.plan, resumable=True, chain=True)
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.runs import chain

    folder = Path(__file__).parent
    stages = [(link.name, folder / f"{link.recipe}.py", link.overrides) for link in chain_plan.links(cfg)]
    chain.run(run.folder, stages, cfg.platform)

    from nemo_plugins.reporting import chain as report  # plots: slow to import

    report.write(run.folder)


if __name__ == "__main__":
    main()
