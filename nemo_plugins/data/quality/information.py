"""How much there is to say: entropies and compression."""

from __future__ import annotations

import zlib

import numpy as np

from nemo_plugins.data.quality.character_kinds import COUNT
from nemo_plugins.data.quality.page import Pages, entropy

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


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    letters = np.minimum(pages.lower, LETTERS - 1)
    folded = letters % PAIRS  # all of a-z and ąćęłńóśźż are apart but ó from s, ź from z
    both = pages.letter[1:] & pages.letter[:-1]
    within = pages.inside[1:] & pages.inside[:-1]
    of_letters, words = pages.inside & pages.letter, pages.words
    return {
        "letter_entropy": entropy(_counts(pages.owner, letters, of_letters, LETTERS, len(pages))),
        "next_letter_entropy": _conditional(pages, folded, both, PAIRS),
        "kind_entropy": entropy(pages.counts),
        "next_kind_entropy": _conditional(pages, pages.kind, within, COUNT),
        "word_length_entropy": entropy(_counts(words.owner, np.minimum(words.length, 20), slice(None), 21, len(pages))),
        "compressed": np.array([_compressed(text) for text in pages.texts]),
    }


def _compressed(text: str) -> float:
    encoded = text.encode("utf-8", "surrogatepass")
    return len(zlib.compress(encoded, 1)) / len(encoded) if encoded else 0.0


def _counts(owner: np.ndarray, values: np.ndarray, which, size: int, texts: int) -> np.ndarray:
    """How often each text has each value below `size`, `[texts, size]`."""
    return np.bincount((owner * size + values)[which], minlength=texts * size).reshape(texts, size)


def _conditional(pages: Pages, values: np.ndarray, pairs: np.ndarray, size: int) -> np.ndarray:
    """H(second | first) of the marked pairs of neighbours, bits; values are below `size`."""
    values = values.astype(np.int64)
    counts = _counts(pages.owner[1:], values[:-1] * size + values[1:], pairs, size * size, len(pages))
    return entropy(counts) - entropy(counts.reshape(len(pages), size, size).sum(axis=2))
