"""What a recipe has imported once it knows what to do: for processes that tests fork (warm_start.py)."""

import contextlib
import importlib
import random  # noqa: F401

import numpy  # noqa: F401  # a forked process seeds both

from nemo_plugins.runs import prepare
from nemo_plugins.runs.stages import by_name

for stage in by_name().values():
    importlib.import_module(stage.plan.partition(":")[0])


def expect(arguments: list[str]) -> None:
    """Called before a process is forked: what it composes first is composed once, here."""
    with contextlib.suppress(Exception):  # a mistake is the process's own to tell
        prepare.expect(arguments[1:])
