"""Personal data in text, replaced by what it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nemo_plugins.data.personal import identifiers

ROUNDS = 5  # what is masked may have been what kept its neighbour from being one. Two are usual


def mask(text: str, names: Sequence[str]) -> tuple[str, Counter[str]]:
    """Replace what is one of the identifiers by its placeholder; all else stays as it is.

    Args:
        names: of identifiers, in the order in which they are looked for: what one has masked, the next does not see.

    Returns:
        The text, and how many of each were masked.

    Raises:
        UserError: an identifier that there is none of.
    """
    counts: Counter[str] = Counter()
    for _ in range(ROUNDS):
        before = counts.total()
        for name in names:
            text = _masked(text, name, counts)
        if counts.total() == before:
            break
    return text, counts


def _masked(text: str, name: str, counts: Counter[str]) -> str:
    identifier = identifiers.get(name)
    parts: list[str] = []
    end = 0
    for start, stop in identifier.spans(text):
        parts += text[end:start], identifier.placeholder
        end = stop
        counts[name] += 1
    return "".join((*parts, text[end:]))
