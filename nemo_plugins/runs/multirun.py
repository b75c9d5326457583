"""`--multirun`: every combination of the swept values as a process of its own, in a run folder of its own.

Hydra's own sweeper runs all jobs in one process, where NeMo's global state outlives a job; one that cannot be composed ends
the rest; and its `multirun.yaml` lies in the current directory.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from nemo_plugins.runs import output
from nemo_plugins.runs.command_line import default_name, key_of, line, override
from nemo_plugins.runs.errors import DONE, FAILED, RESUMABLE, WRONG_INPUT

FLAGS = ("--multirun", "-m")
WORST_FIRST = (FAILED, RESUMABLE, WRONG_INPUT, DONE)
IN_NAME_ALREADY = ("model", "experiment", "run.name")


def asked_for(arguments: list[str]) -> bool:
    """Whether the command line sweeps; what only prints a configuration is Hydra's."""
    return any(flag in arguments for flag in FLAGS) and not any(
        word.startswith(("--cfg", "-c", "--info")) for word in arguments
    )


def jobs(arguments: list[str]) -> list[list[str]]:
    """The overrides of each job, `run.name` included.

    Raises:
        hydra.errors.OverrideParseException: an override cannot be read.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    overrides = [word for word in arguments if not word.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = {one.key_or_group for one in parsed if one.is_sweep_override()} - set(IN_NAME_ALREADY)
    [combinations] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [[*job, *_name(list(job), swept)] for job in combinations]


def run(arguments: list[str]) -> int:
    """Run the jobs one after the other; one that fails does not end the others. Returns the worst exit code."""
    todo = jobs(arguments)
    flags = [word for word in arguments if word.startswith("-") and word not in FLAGS]
    codes, recipe = [], Path(sys.argv[0]).stem
    for number, job in enumerate(todo, 1):
        output.say(f"[{number}/{len(todo)}] {line(recipe, [*flags, *job])}")
        codes.append(subprocess.run([sys.executable, sys.argv[0], *flags, *job], check=False).returncode)
    failed = [(code, job) for code, job in zip(codes, todo, strict=True) if code]
    for code, job in failed:
        output.error(f"exit code {code}: {line(recipe, [*flags, *job])}")
    output.say(f"{len(todo) - len(failed)} of {len(todo)} jobs done")
    known = [code if code in WORST_FIRST else FAILED for code in codes]
    return min(known, key=WORST_FIRST.index, default=DONE)


def _name(job: list[str], swept: set[str]) -> list[str]:
    """`run.name=<run>/<key=value,…>` of what is swept; nothing where the run's name says it all."""
    values = dict(word.lstrip("+~").split("=", 1) for word in job if "=" in word)
    said = {key_of(one.input_line): one.value() for one in OverridesParser.create().parse_overrides(job)}
    candidate = ",".join(f"{key.split('.')[-1]}={value}" for key, value in values.items() if key in swept)
    if not candidate:
        return []
    model = said.get("model", "")
    if model == "from_hf":
        model = str(said.get("model.path", model)).rstrip("/").split("/")[-1]
    run = said.get("run.name") or default_name(model, said.get("experiment"))
    return [override("run.name", f"{run}/{re.sub(r'[^A-Za-z0-9_.,=+-]', '_', candidate)}")]
