r"""A number or a formula in a box, whichever: for a model that does not know the form yet."""

from __future__ import annotations

from nemo_plugins.alignment.rewards import thinking
from nemo_plugins.alignment.rewards.boxed_math import last_box, readable


def boxed_format(prompt: str, completion: str, reference: str, *, language: str = "pl") -> float:
    r"""1.0 where the last `\boxed{}` behind the completion's thinking holds what `boxed_math` can read, else 0.0."""
    answer = last_box(thinking.answer(completion))
    return 1.0 if answer is not None and readable(answer, language) else 0.0
