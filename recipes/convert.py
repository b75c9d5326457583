"""Convert between Hugging Face and NeMo: the teacher in (convert.to=nemo), a student out (convert.to=hf).

With convert.tokenizer=<folder> another tokenizer takes the place of the model's own (docs/tokenizers.md).

Run on a laptop    python recipes/convert.py +model=tiny_pl
See first          python recipes/convert.py +model=bielik11b dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


@runs.recipe("convert")
def main(cfg: Recipe, run: runs.Run) -> None:
    if cfg.convert.tokenizer:
        from nemo_plugins.models.vocabulary import swap  # heavy imports after validation

        swap.run(cfg, run)
    else:
        from nemo_plugins.platforms import prepare

        prepare()
        from nemo_plugins.models import conversion

        conversion.run(cfg, run)


if __name__ == "__main__":
    main()
