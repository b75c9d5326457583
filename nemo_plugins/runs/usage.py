"""What `--help` prints: the recipe, the models and experiments there are, the keys that people use, examples."""

from __future__ import annotations

import re

from nemo_plugins.configs.store import CONF, options
from nemo_plugins.runs.stages import Stage

COMMON = {
    "run.name=NAME": "folder below run.root (default: <model> or <model>-<experiment>)",
    "run.root=DIR, run.seed=N": "where runs lie (runs); seed of everything (1234)",
    "platform=auto|cpu|gpu": "what to run on; platform.devices=2 starts two local workers",
    "platform.gpu=NAME": "the GPU that a plan counts with, a file of conf/device/ (h100)",
    "platform.transformer_engine=auto|true|false": "whether training has it, here and in a plan; platform=image: true",
    "dry_run=true": "check everything, print the plan, write nothing",
    "force=true": "move a finished stage's folder aside and do it again",
    "debug=fast": "a few steps, to see that it works",
}


def text(stage: Stage, docstring: str) -> str:
    """The whole help of a recipe, plain text."""
    recipe = stage.name
    parts = [
        f"usage: python recipes/{recipe}.py +model=NAME [key=value ...]",
        docstring.strip(),
        f"models (+model=)\n{_listed('model')}",
        f"experiments (experiment=)\n{_listed('experiment')}",
        "keys" + "".join(f"\n  {key}\n      {what}" for key, what in {**stage.keys, **COMMON}.items()),
        "  all of them, with their values: --cfg job;  several runs: --multirun key=a,b  (each in <run name>/<key=value>)",
        "examples" + "".join(f"\n  python recipes/{recipe}.py {words}".rstrip() for words in stage.examples),
        f'tab completion\n  eval "$(python recipes/{recipe}.py -sc install=bash)"',
        "exit codes: 0 done, 2 wrong input, 75 stopped early (the same command goes on), 1 anything else",
    ]
    return "\n\n".join(parts)


def _listed(group: str) -> str:
    return "\n".join(f"  {name:<16} {_headline(group, name)}" for name in options(group))


def _headline(group: str, name: str) -> str:
    """A file's purpose, else its first comment."""
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    comments = [line.lstrip("# ").strip() for line in lines if line.startswith("#") and "@package" not in line]
    purpose = [line for line in comments if line.startswith("Purpose")]
    return re.sub(r"^Purpose\s+", "", (purpose or comments or [""])[0])
