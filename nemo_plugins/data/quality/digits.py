"""Digits and numbers."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.character_kinds import KIND
from nemo_plugins.data.quality.page import Group, Pages, edges, share

DOCUMENTATION = {
    "digits": "share of characters that are digits",
    "numbers_per_word": "runs of digits over words",
    "numbers_long": "share of runs of digits with 7 digits or more",
    "digit_tokens": "share of tokens with digits and no letter",
    "mixed_tokens": "share of tokens with digits and letters",
    "lines_of_digits": "share of lines with more digits than letters",
}


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    inside = (pages.kind == KIND["digit"]) | (pages.kind == KIND["other_digit"])
    start, end = edges(inside)
    numbers = Group(pages.owner[start], len(pages))
    digits, letters, tokens, lines = pages.digits_before, pages.letters_before, pages.tokens, pages.lines
    with_digit, with_letter = tokens.among(digits) > 0, tokens.among(letters) > 0
    more = lines.among(digits) > lines.among(letters)
    return {
        "digits": share(pages.sum(inside), pages.length),
        "numbers_per_word": share(numbers.count, pages.words.count),
        "numbers_long": share(numbers.sum(end - start >= 7), numbers.count),
        "digit_tokens": share(tokens.sum(with_digit & ~with_letter), tokens.count),
        "mixed_tokens": share(tokens.sum(with_digit & with_letter), tokens.count),
        "lines_of_digits": share(lines.sum(more), lines.count),
    }
