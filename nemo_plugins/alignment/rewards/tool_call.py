"""One call of a tool, with the right name and arguments."""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any

from nemo_plugins.alignment.rewards import thinking

LONGEST = 100_000  # characters of a call
DEEPEST = 64  # json's own limit is Python's recursion limit, which other libraries raise

_TAG = re.compile(r"</?tool_call>")
_NESTING = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


class NoCall(ValueError):
    """The text holds no call of a tool, or more than one, or one that cannot be read."""


def tool_call(prompt: str, completion: str, reference: str) -> float:
    """1.0 where the completion makes exactly the reference's call, `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

    What is thought between <think> and </think> is not read. The order of keys does not matter, that of lists does. Types are
    strict: 1, 1.0, "1" and true are four values. A key that comes twice, a key beside name and arguments, a second call or half
    of one, and JSON that is none make it 0.0.

    Raises:
        ValueError: the reference is no JSON text of a name and arguments.
    """
    try:
        wanted = call(reference)
    except NoCall as error:
        raise ValueError(f"the reference of tool_call must be JSON of name and arguments: {error}") from None
    try:
        return 1.0 if same(only_call(thinking.answer(completion)), wanted) else 0.0
    except NoCall:
        return 0.0


def only_call(completion: str) -> dict:
    """The one call in the completion.

    Raises:
        NoCall: there is none, another, or a tag without its partner; or it cannot be read.
    """
    tags = list(itertools.islice(_TAG.finditer(completion), 3))
    if [tag[0] for tag in tags] != ["<tool_call>", "</tool_call>"]:
        raise NoCall("expected one <tool_call>…</tool_call>")
    return call(completion[tags[0].end() : tags[1].start()])


def call(text: str) -> dict:
    """The call that the JSON text is: a dict of `name`, a string, and `arguments`, a dict.

    Raises:
        NoCall: it is anything else.
    """
    if len(text) > LONGEST or _depth(text) > DEEPEST:
        raise NoCall(f"longer than {LONGEST} characters or deeper than {DEEPEST} brackets")
    try:
        parsed = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
    except ValueError as error:  # json's own is one; so is int()'s for thousands of digits
        raise NoCall(str(error)) from None
    if not isinstance(parsed, dict) or parsed.keys() != {"name", "arguments"}:
        raise NoCall("expected an object of name and arguments")
    if not isinstance(parsed["name"], str) or not isinstance(parsed["arguments"], dict):
        raise NoCall("expected a string as name and an object as arguments")
    return parsed


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal in value and type."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def _depth(text: str) -> int:
    """How deep brackets are nested outside of strings, stopping where it is too deep."""
    depth = deepest = 0
    for token in _NESTING.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        deepest = max(deepest, depth)
        if deepest > DEEPEST:
            break
    return deepest


def _unique(pairs: list[tuple[str, object]]) -> dict:
    arguments = dict(pairs)
    if len(arguments) != len(pairs):
        raise NoCall("a key comes twice")
    return arguments


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NoCall(f"{text[:20]} is no number in JSON")
    return number
