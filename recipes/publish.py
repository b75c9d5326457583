"""Make folders ready for a hub: weights, GGUF files, model cards. Nothing is sent unless publish.push=true and HF_TOKEN say so.

Run on a laptop    python recipes/publish.py +model=tiny_pl experiment=laptop publish.repository=me/tiny publish.licence=mit
See first          python recipes/publish.py +model=tiny_pl publish.repository=me/tiny publish.licence=mit dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


@runs.recipe("publish")
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.export import publish  # heavy imports after validation

    publish.run(cfg, run)


if __name__ == "__main__":
    main()
