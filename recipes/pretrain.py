"""Train a model with NeMo: from random weights (how tiny_pl was made, a student's baseline), or a teacher on, to correct it.

Run on a laptop    python recipes/pretrain.py +model=tiny_pl
Teacher correction python recipes/pretrain.py +model=tiny_pl pretrain.from_teacher=true pretrain.max_steps=100
See first          python recipes/pretrain.py +model=tiny_pl dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


def import_teacher(cfg: Recipe) -> None:
    """Import the teacher first where it is to be trained on."""
    if cfg.pretrain.from_teacher:
        runs.import_teacher(cfg)


@runs.recipe("pretrain", before=import_teacher)
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.platforms import prepare  # heavy imports after validation

    prepare()
    from nemo_plugins.training import pretrain

    pretrain.Pretraining(cfg, run).fit()


if __name__ == "__main__":
    main()
