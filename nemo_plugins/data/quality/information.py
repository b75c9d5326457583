"""How much there is to say: entropies and compression."""

from __future__ import annotations

import zlib

import numpy as np

from nemo_plugins.data.quality.kinds import COUNT
from nemo_plugins.data.quality.page import Page, entropy

LETTERS = 512  # code points of lower-case letters told apart: Latin
PAIRS = 64
DOCUMENTATION = {
    "letter_entropy": "entropy of the letters in lower case, bits",
    "next_letter_entropy": "entropy of pairs of letters less that of their first ones, bits",
    "kind_entropy": "entropy of the kinds of characters (letters, digits, each mark …), bits",
    "next_kind_entropy": "entropy of pairs of kinds less that of their first ones, bits",
    "word_length_entropy": "entropy of the lengths of words up to 20, bits",
    "compressed": "bytes after zlib (level 1) over bytes before",
}


def measure(page: Page) -> dict[str, float]:
    """This family's features of a page."""
    size = len(page.encoded)
    ratio = len(zlib.compress(page.encoded, 1)) / size if size else 0.0
    letters = np.minimum(page.lower, LETTERS - 1)
    folded = np.where(page.letter, letters % PAIRS, 0)  # all of a-z and ąćęłńóśźż are apart but ó from s, ź from z
    both = page.letter[1:] & page.letter[:-1]
    kind = page.kind.astype(np.int64)
    return {
        "letter_entropy": entropy(np.bincount(letters[page.letter])),
        "next_letter_entropy": _conditional(folded[:-1][both], folded[1:][both], PAIRS),
        "kind_entropy": entropy(page.counts),
        "next_kind_entropy": _conditional(kind[:-1], kind[1:], COUNT),
        "word_length_entropy": entropy(np.bincount(np.minimum(page.words.length, 20))),
        "compressed": ratio,
    }


def _conditional(first: np.ndarray, second: np.ndarray, size: int) -> float:
    """H(second | first), bits; both below `size`."""
    if not len(first):
        return 0.0
    return entropy(np.bincount(first.astype(np.int64) * size + second)) - entropy(np.bincount(first))
