"""Serve a GGUF file by llama.cpp's own server: a page to talk to it in a browser, and an OpenAI-compatible address.

Run on a laptop    python recipes/serve.py +model=tiny_pl experiment=laptop
Any file           python recipes/serve.py +model=tiny_pl chat.model=my-Q4_K_M.gguf chat.port=9000
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout works, too

from nemo_plugins import runs
from nemo_plugins.configs import Recipe
from nemo_plugins.planning import chat_plan


@runs.recipe("serve")
def main(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.serving import server  # heavy imports after validation

    chat = cfg.chat
    server.run(
        chat_plan.gguf(cfg),
        host=chat.host,
        port=chat.port,
        context=chat.context,
        parallel=chat.parallel,
        threads=runs.threads(cfg),
    )


if __name__ == "__main__":
    main()
