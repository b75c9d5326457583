"""Rewards that can be checked: `reward(prompt, completion, reference) -> float`, one a file, each file named after its reward.

A new one is a file here; a user's own is "path/to/file.py:function" in the config.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path

from nemo_plugins.runs.errors import UserError

Reward = Callable[[str, str, str], float]

NAMES = tuple(  # files with a function of the file's name; the other files here serve them
    file.stem
    for file in sorted(Path(__file__).parent.glob("*.py"))
    if f"\ndef {file.stem}(" in file.read_text(encoding="utf-8")
)


def get(name: str, **options: object) -> Reward:
    """The reward of that name, or a user's own by "file.py:function", with its options (keyword arguments) set.

    Raises:
        UserError: no such reward, file, function or option.
    """
    file, colon, function_name = name.rpartition(":")
    if colon:
        function = _from_file(name, Path(file), function_name)
    elif name in NAMES:
        function = getattr(importlib.import_module(f"{__name__}.{name}"), name)
    else:
        raise UserError(f"reward {name!r} is not there", f"expected one of {', '.join(NAMES)}, or path/to/file.py:function")
    _check_call(name, function, options)
    return functools.partial(function, **options) if options else function


def _from_file(name: str, file: Path, function_name: str) -> Reward:
    if not file.is_file():
        raise UserError(f"reward {name!r}: {file} is not there", "expected path/to/file.py:function")
    spec = importlib.util.spec_from_file_location(f"reward_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"reward {name!r}: {file} is no Python file", "expected path/to/file.py:function")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file does when it is imported
        raise UserError(f"reward {name!r}: {file} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"reward {name!r}: {file} has no function {function_name!r}")
    return function


def _check_call(name: str, function: Reward, options: dict[str, object]) -> None:
    try:
        signature = inspect.signature(function)
        signature.bind("", "", "", **options)
    except TypeError as error:
        wanted = "expected a function (prompt, completion, reference, *, options) -> float"
        raise UserError(f"reward {name!r} with {options}: {error}", f"{wanted}, it is {name}{signature}") from None
