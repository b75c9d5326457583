"""Run a whole chain, each stage a process with a run folder of its own: teacher in, prune, distill, student out, baselines.

Run on a laptop    python recipes/minitron.py +model=tiny_pl experiment=laptop
Your own teacher   python recipes/minitron.py +model=from_hf model.path=DIR data.train=[text.txt] data.heldout=[heldout.txt]
See first          python recipes/minitron.py +model=bielik11b experiment=minitron_7b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe
from nemo_plugins.planning import chain_plan


@runs.recipe("minitron")
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.reporting.first_result import FirstResult
    from nemo_plugins.runs import chain

    folder, links = Path(__file__).parent, chain_plan.links(cfg)
    stages = [(link.name, folder / f"{link.recipe}.py", link.overrides) for link in links]
    export = next((link.overrides for link in links if link.name == "convert-export"), [])
    chain.run(run.folder, stages, cfg.platform, FirstResult(cfg, export))

    from nemo_plugins.reporting import chain as report  # plots: slow to import
    from nemo_plugins.reporting import ending

    report.write(run.folder)
    ending.show(cfg)


if __name__ == "__main__":
    main()
