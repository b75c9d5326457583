"""What `--help` prints: the recipe, the models and experiments there are, the keys that people use, examples."""

from __future__ import annotations

import re

from nemo_plugins.configs.store import CONF, options

COMMON = {
    "run.name=NAME": "folder below run.root (default: <model> or <model>-<experiment>)",
    "run.root=DIR, run.seed=N": "where runs lie (runs); seed of everything (1234)",
    "platform=auto|cpu|gpu": "what to run on; platform.devices=2 starts two local workers",
    "dry_run=true": "check everything, print the plan, write nothing",
    "force=true": "move a finished stage's folder aside and do it again",
    "debug=fast": "a few steps, to see that it works",
}
KEYS = {
    "convert": {
        "convert.to=nemo|hf": "import a Hugging Face folder, or export the run's newest checkpoint",
        "convert.source=DIR": "what to convert (default: model.path, or the run's newest checkpoint)",
        "convert.dtype=bfloat16|float32": "of an exported folder",
    },
    "prune": {
        "prune.num_layers=N, prune.ffn_hidden_size=N, prune.hidden_size=N": "the student (default: the recommended one)",
        "prune.drop_layers=[3,4]": "drop just these layers, counted from 1",
        "prune.criterion=importance|random": "measured importance, or the random baseline",
        "prune.calibration.samples=N, .seq_length=N, .data=[FILE]": "the text that importance is measured on",
        "teacher.path=DIR": "NeMo checkpoint or Hugging Face folder (default: the run's convert-import, else model.path)",
    },
    "distill": {
        "distill.max_steps=N, distill.lr=X, distill.min_lr=X, distill.warmup_steps=N": "schedule",
        "distill.micro_batch_size=N, distill.global_batch_size=N, distill.seq_length=N": "sizes of a step",
        "distill.data=[FILE]": "training text (default: data.train)",
        "teacher.path=DIR, student.path=DIR": "default: what the run's convert-import and prune left",
    },
    "pretrain": {
        "pretrain.max_steps=N, pretrain.lr=X, pretrain.global_batch_size=N": "schedule and sizes, as of distill",
        "pretrain.sizes.num_layers=N, pretrain.sizes.ffn_hidden_size=N": "train another size than the model's own",
    },
    "minitron": {
        "experiment=NAME": "the chain: its stages, sizes and baselines",
        "prune.…=, distill.…=": "handed on to every stage",
    },
}
EXAMPLES = {
    "convert": ("+model=tiny_pl", "+model=bielik11b convert.source=Bielik-11B dry_run=true"),
    "prune": (
        "+model=bielik11b dry_run=true",
        "+model=tiny_pl prune.num_layers=6",
        "+model=tiny_pl --multirun prune.ffn_hidden_size=512,768",
    ),
    "distill": ("+model=tiny_pl", "+model=tiny_pl distill.max_steps=50 run.name=short"),
    "pretrain": ("+model=tiny_pl debug=fast",),
    "minitron": ("+model=tiny_pl experiment=laptop", "+model=bielik11b experiment=minitron_7b dry_run=true"),
}


def text(recipe: str, docstring: str) -> str:
    """The whole help of a recipe, plain text."""
    parts = [
        f"usage: python recipes/{recipe}.py +model=NAME [key=value ...]",
        docstring.strip(),
        f"models (+model=)\n{_listed('model')}",
        f"experiments (experiment=)\n{_listed('experiment')}",
        "keys" + "".join(f"\n  {key}\n      {what}" for key, what in {**KEYS.get(recipe, {}), **COMMON}.items()),
        "  all of them, with their values: --cfg job;  several runs: --multirun key=a,b  (each in <run name>/<key=value>)",
        "examples" + "".join(f"\n  python recipes/{recipe}.py {words}" for words in EXAMPLES.get(recipe, ())),
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
