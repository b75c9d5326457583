"""Digits and numbers."""

from __future__ import annotations

from nemo_plugins.data.quality.kinds import KIND
from nemo_plugins.data.quality.page import Page, count, edges, share

DOCUMENTATION = {
    "digits": "share of characters that are digits",
    "numbers_per_word": "runs of digits over words",
    "numbers_long": "share of runs of digits with 7 digits or more",
    "digit_tokens": "share of tokens with digits and no letter",
    "mixed_tokens": "share of tokens with digits and letters",
    "lines_of_digits": "share of lines with more digits than letters",
}


def measure(page: Page) -> dict[str, float]:
    """This family's features of a page."""
    inside = (page.kind == KIND["digit"]) | (page.kind == KIND["other_digit"])
    start, end = edges(inside)
    lengths = end - start
    digits, letters = page.digits_before, page.letters_before
    with_digit = digits[page.tokens.end] > digits[page.tokens.start]
    with_letter = letters[page.tokens.end] > letters[page.tokens.start]
    start, end = page.lines.start, page.lines.end
    return {
        "digits": share(digits[-1], len(page.kind)),
        "numbers_per_word": share(len(lengths), len(page.words)),
        "numbers_long": share(count(lengths >= 7), len(lengths)),
        "digit_tokens": share((with_digit & ~with_letter).sum(), len(page.tokens)),
        "mixed_tokens": share((with_digit & with_letter).sum(), len(page.tokens)),
        "lines_of_digits": share((digits[end] - digits[start] > letters[end] - letters[start]).sum(), len(page.lines)),
    }
