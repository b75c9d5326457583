"""Punctuation: how much of which, and whether it stands where it should."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.character_kinds import KIND, one_of
from nemo_plugins.data.quality.page import Pages, entropy, share

EACH = {  # marks → name of their share of all characters
    ".": "full_stops", ",": "commas", ";": "semicolons", ":": "colons", "!": "exclamation_marks", "?": "question_marks",
    "-": "hyphens", "–—": "dashes", "…": "ellipses", "()": "round_brackets", "[]{}": "other_brackets", "<>": "angle_brackets",
    "/\\": "slashes", "|_*#•·": "list_marks", "=+~^%&": "operators", "\"'`": "straight_quotes", "„”“’«»": "curly_quotes",
    "©®™": "rights_signs",
}  # fmt: skip
PLACED = {
    "punctuation": "share of characters that are punctuation",
    "punctuation_entropy": "entropy of the punctuation characters, bits",
    "space_before": "share of full stops, commas, semicolons and colons behind white space",
    "no_space_behind": "share of commas, semicolons, exclamation and question marks directly before a letter",
    "stop_inside_word": "share of full stops between two lower-case letters",
    "doubled": "share of punctuation that repeats the character before it",
    "runs_of_three": "share of characters in runs of three or more punctuation characters",
    "round_balance": "difference of opening and closing round brackets over both",
    "quote_balance": "difference of „ and ” over both",
    "lone_marks": "share of tokens that hold neither letter nor digit",
}
DOCUMENTATION = {name: f"share of characters that are one of {' '.join(marks)}" for marks, name in EACH.items()} | PLACED
_EACH_KINDS = [([KIND[mark] for mark in marks], name) for marks, name in EACH.items()]
_ENDING, _SPACED = one_of(".,;:"), one_of(",;!?")


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    counts, characters, marked = pages.counts, pages.length, pages.punctuation
    features = {name: share(counts[:, which].sum(axis=1), characters) for which, name in _EACH_KINDS}
    total = pages.sum(marked)
    kind, letter = pages.kind, pages.letter
    small = letter & ~pages.upper
    ending, spaced = _ENDING[kind], _SPACED[kind]
    repeated = marked[1:] & marked[:-1]
    inside_word = (kind[1:-1] == KIND["."]) & small[:-2] & small[2:]
    features |= {
        "punctuation": share(total, characters),
        "punctuation_entropy": entropy(counts[:, KIND["."] :]),  # marks with a kind of their own
        "space_before": share(pages.pairs(ending[1:] & pages.space[:-1]), pages.sum(ending)),
        "no_space_behind": share(pages.pairs(spaced[:-1] & letter[1:]), pages.sum(spaced)),
        "stop_inside_word": share(pages.triples(inside_word), counts[:, KIND["."]]),
        "doubled": share(pages.pairs(repeated & (pages.code[1:] == pages.code[:-1])), total),
        "runs_of_three": share(pages.in_runs(marked, 3), characters),
        "round_balance": _balance(counts[:, KIND["("]], counts[:, KIND[")"]]),
        "quote_balance": _balance(counts[:, KIND["„"]], counts[:, KIND["”"]]),
        "lone_marks": share(pages.tokens.sum(_without_word_or_digit(pages)), pages.tokens.count),
    }
    return features


def _balance(opening: np.ndarray, closing: np.ndarray) -> np.ndarray:
    return share(abs(opening - closing), opening + closing)


def _without_word_or_digit(pages: Pages) -> np.ndarray:
    return pages.tokens.among(pages.letters_before + pages.digits_before) == 0
