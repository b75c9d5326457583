"""Write a student in the formats that people run it in, GGUF and FP8, and hold each against the folder that it was made from.

Run on a laptop    python recipes/quantize.py +model=tiny_pl experiment=laptop
Any folder         python recipes/quantize.py +model=from_hf model.path=DIR export.source=DIR
See first          python recipes/quantize.py +model=bielik11b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe
from nemo_plugins.planning import quantize_plan


@runs.recipe("quantize", stale=quantize_plan.stale)
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.export import quantize  # heavy imports after validation

    quantize.run(cfg, run)


if __name__ == "__main__":
    main()
