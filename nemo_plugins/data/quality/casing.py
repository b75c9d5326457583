"""Upper and lower case: of letters, words, sentences and lines."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.page import Page, share

DOCUMENTATION = {
    "upper_letters": "share of letters in upper case",
    "capitalised_words": "share of words that begin in upper case",
    "all_upper_words": "share of words of two letters or more all in upper case",
    "single_upper_letters": "share of words that are one upper-case letter",
    "case_changes": "share of neighbouring letters where lower case is followed by upper case",
    "sentences_capitalised": "share of sentences whose first word begins in upper case",
    "capitalised_inside": "share of words that begin in upper case, among those that do not begin a sentence",
    "capitalised_pairs": "share of neighbouring words that both begin in upper case",
    "lines_lower_start": "share of lines that begin with a lower-case letter",
    "lines_upper_start": "share of lines that begin with an upper-case letter",
    "lines_all_upper": "share of lines with 4 letters or more, all in upper case",
}


def measure(page: Page) -> dict[str, float]:
    """This family's features of a page."""
    words, uppers = page.words, page.word_uppers
    first = page.upper[words.start]
    all_upper = (uppers == words.length) & (words.length > 1)
    beginning = page.first_of_sentence
    capital_beginnings = int(first[beginning].sum())
    starts, line_letters = page.lines.start, _inside(page.letters_before, page)
    line_uppers = _inside(page.uppers_before, page)
    lines = len(starts)
    return {
        "upper_letters": share(page.uppers_before[-1], page.letters),
        "capitalised_words": share(first.sum(), len(words)),
        "all_upper_words": share(all_upper.sum(), len(words)),
        "single_upper_letters": share((first & (words.length == 1)).sum(), len(words)),
        "case_changes": share((page.letter[:-1] & ~page.upper[:-1] & page.upper[1:]).sum(), page.letters - len(words)),
        "sentences_capitalised": share(capital_beginnings, len(beginning)),
        "capitalised_inside": share(int(first.sum()) - capital_beginnings, len(words) - len(beginning)),
        "capitalised_pairs": share((first[:-1] & first[1:]).sum(), len(words) - 1),
        "lines_lower_start": share((page.letter[starts] & ~page.upper[starts]).sum(), lines),
        "lines_upper_start": share(page.upper[starts].sum(), lines),
        "lines_all_upper": share(((line_letters >= 4) & (line_letters == line_uppers)).sum(), lines),
    }


def _inside(before: np.ndarray, page: Page) -> np.ndarray:
    return before[page.lines.end] - before[page.lines.start]
