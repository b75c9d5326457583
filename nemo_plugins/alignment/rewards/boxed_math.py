r"""The number inside the last `\boxed{}`."""

from __future__ import annotations

import re
from functools import cache

from nemo_plugins.alignment.rewards.numerals import Style, parse
from nemo_plugins.configs import language as languages

# An escaped character first: \{ and \} are no braces, and \\boxed{ is a line break and a word.
_BRACES = re.compile(r"\\boxed\s*+\{|\\.|[{}]", re.DOTALL)


def boxed_math(prompt: str, completion: str, reference: str, *, language: str = "pl") -> float:
    r"""1.0 where the number in the completion's last `\boxed{}` is exactly the reference, else 0.0.

    Numbers are read as `language` writes them (`numerals.parse`) and compared as fractions: 0,5 = 1/2 = \frac{1}{2} = 50 %, but
    50 % is not 50. A box in a box is part of the outer one; a box cut off after the last whole one leaves no answer.

    Raises:
        ValueError: the reference is no number.
    """
    style = number_style(language)
    wanted = parse(reference, style)
    if wanted is None:
        raise ValueError(f"the reference of boxed_math must be a number, got {reference[:100]!r}")
    answer = last_box(completion)
    return 1.0 if answer is not None and parse(answer, style) == wanted else 0.0


@cache
def number_style(language: str) -> Style:
    found = languages.load(language)
    return Style(found.decimal_separator, tuple(found.thousands_separators))


def last_box(text: str) -> str | None:
    r"""What is inside the last whole `\boxed{…}` that is in no other; None where there is none, or where another box begins
    after it and never ends. One pass over the text, however its braces are nested."""
    opened: list[int] = []  # where the inside of each open box begins; −1 for any other brace
    boxes: list[tuple[int, int]] = []  # whole ones, none inside another
    for found in _BRACES.finditer(text):
        token = found[0]
        if token[-1] == "{" and token != r"\{":
            opened.append(-1 if token == "{" else found.end())
        elif token == "}" and opened:
            start = opened.pop()
            if start >= 0:
                while boxes and boxes[-1][0] > start:
                    boxes.pop()
                boxes.append((start, found.start()))
    if not boxes or any(start > boxes[-1][1] for start in opened):
        return None
    return text[slice(*boxes[-1])]
