"""Talk to a model in the terminal: a run folder, a Hugging Face folder, a GGUF file or a server; /help says what there is.

Run on a laptop    python recipes/chat.py +model=tiny_pl experiment=laptop
A GGUF file        python recipes/chat.py +model=tiny_pl chat.model=runs/tiny_pl-laptop/quantize/gguf/tiny_pl-laptop-Q4_K_M.gguf
See first          python recipes/chat.py +model=tiny_pl experiment=laptop dry_run=true
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe


@runs.recipe("chat")
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.serving import chat  # heavy imports after validation

    chat.run(cfg)


if __name__ == "__main__":
    main()
