"""`recipes/distill.py` with a loss that is not a number at one call: python tests/chain/nan_loss.py CALL OVERRIDE …"""

import runpy
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

if __name__ == "__main__":
    bad = int(sys.argv.pop(1))
    from nemo_plugins import platforms

    platforms.prepare()
    from nemo_plugins.distillation.live import LogitsLoss

    done, calls = LogitsLoss.post_forward, iter(range(1, 10**9))
    LogitsLoss.post_forward = lambda self, loss: done(self, loss * (float("nan") if next(calls) == bad else 1.0))
    recipe = REPOSITORY / "recipes" / "distill.py"
    sys.argv[0] = str(recipe)
    runpy.run_path(str(recipe), run_name="__main__")
