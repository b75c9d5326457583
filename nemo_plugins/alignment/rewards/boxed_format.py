r"""A number in a box, whichever: for a model that does not know the form yet."""

from __future__ import annotations

from nemo_plugins.alignment.rewards.boxed_math import last_box, number_style
from nemo_plugins.alignment.rewards.numerals import parse


def boxed_format(prompt: str, completion: str, reference: str, *, language: str = "pl") -> float:
    r"""1.0 where the completion's last `\boxed{}` holds a number that `boxed_math` can read, else 0.0."""
    answer = last_box(completion)
    return 1.0 if answer is not None and parse(answer, number_style(language)) is not None else 0.0
