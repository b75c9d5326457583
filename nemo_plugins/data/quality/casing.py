"""Upper and lower case: of letters, words, sentences and lines."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.page import Pages, share

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


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    words, uppers, lines = pages.words, pages.word_uppers, pages.lines
    first = pages.upper[words.start]
    all_upper = (uppers == words.length) & (words.length > 1)
    capitals, beginnings = words.sum(first), pages.sentences.count
    capital_beginnings = pages.sentences.sum(first[pages.first_of_sentence])
    starts, line_letters, line_uppers = lines.start, lines.among(pages.letters_before), lines.among(pages.uppers_before)
    pair = words.follows()
    pair[1:] &= first[1:] & first[:-1]
    changes = pages.letter[:-1] & ~pages.upper[:-1] & pages.upper[1:]
    return {
        "upper_letters": share(pages.sum(pages.upper), pages.letters),
        "capitalised_words": share(capitals, words.count),
        "all_upper_words": share(words.sum(all_upper), words.count),
        "single_upper_letters": share(words.sum(first & (words.length == 1)), words.count),
        "case_changes": share(pages.pairs(changes), pages.letters - words.count),
        "sentences_capitalised": share(capital_beginnings, beginnings),
        "capitalised_inside": share(capitals - capital_beginnings, words.count - beginnings),
        "capitalised_pairs": share(words.sum(pair), np.maximum(0, words.count - 1)),
        "lines_lower_start": share(lines.sum(pages.letter[starts] & ~pages.upper[starts]), lines.count),
        "lines_upper_start": share(lines.sum(pages.upper[starts]), lines.count),
        "lines_all_upper": share(lines.sum((line_letters >= 4) & (line_letters == line_uppers)), lines.count),
    }
