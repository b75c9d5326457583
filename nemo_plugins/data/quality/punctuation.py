"""Punctuation: how much of which, and whether it stands where it should."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.kinds import KIND
from nemo_plugins.data.quality.page import Page, count, edges, entropy, share

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
_ENDING = np.zeros(256, bool)
_ENDING[[KIND[mark] for mark in ".,;:"]] = True
_SPACED = np.zeros(256, bool)
_SPACED[[KIND[mark] for mark in ",;!?"]] = True


def measure(page: Page) -> dict[str, float]:
    """This family's features of a page."""
    counts, characters = page.counts.tolist(), len(page.kind)
    made = {name: share(sum(counts[kind] for kind in which), characters) for which, name in _EACH_KINDS}
    marked = page.punctuation
    of_kind = page.counts[KIND["."] :]  # marks with a kind of their own
    total = int(marked.sum())
    kind, letter, upper = page.kind, page.letter, page.upper
    small = letter & ~upper
    ending, spaced = _ENDING[kind], _SPACED[kind]
    full_stops = counts[KIND["."]]
    repeated = marked[1:] & marked[:-1]
    made |= {
        "punctuation": share(total, characters),
        "punctuation_entropy": entropy(of_kind),
        "space_before": share((ending[1:] & page.space[:-1]).sum(), ending.sum()),
        "no_space_behind": share((spaced[:-1] & letter[1:]).sum(), spaced.sum()),
        "stop_inside_word": share(((kind[1:-1] == KIND["."]) & small[:-2] & small[2:]).sum(), full_stops),
        "doubled": share((repeated & (page.code[1:] == page.code[:-1])).sum(), total),
        "runs_of_three": share(_in_runs_of_three(repeated), characters),
        "round_balance": _balance(counts[KIND["("]], counts[KIND[")"]]),
        "quote_balance": _balance(counts[KIND["„"]], counts[KIND["”"]]),
        "lone_marks": share(_without_word_or_digit(page), len(page.tokens)),
    }
    return made


def _in_runs_of_three(repeated: np.ndarray) -> int:
    """Characters in runs of at least 3, from whether each character and the one before it are both marked."""
    start, end = edges(repeated)
    lengths = end - start + 1
    return int(lengths[lengths >= 3].sum())


def _balance(opening: int, closing: int) -> float:
    return share(abs(opening - closing), opening + closing)


def _without_word_or_digit(page: Page) -> int:
    before = page.digits_before
    letters = page.letters_before[page.tokens.end] - page.letters_before[page.tokens.start]
    return count((letters == 0) & (before[page.tokens.end] == before[page.tokens.start]))
