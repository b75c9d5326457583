"""Repetition: of lines, of runs of words, of characters."""

from __future__ import annotations

import math

import numpy as np

from nemo_plugins.data.quality.page import Page, occurrences, runs_of, share

NGRAMS = (2, 4)  # whose commonest one's share is measured, as Gopher does (arXiv 2112.11446)
REPEATED = (5, 8)  # whose repeated share is measured
DOCUMENTATION = {
    "lines_duplicate": "share of lines that occurred before",
    "characters_in_duplicate_lines": "share of characters of lines in lines that occurred before",
    "lines_same_first_word": "share of lines that begin with the word of the line before",
    "top_first_word": "share of lines that begin with the commonest first word",
    "sentences_same_first_word": "share of sentences that begin with the commonest first word",
    **{f"top_{n}_words_in_a_row": f"share of words that the commonest {n} in a row cover; 0: no repeats" for n in NGRAMS},
    **{f"repeated_{n}_words_in_a_row": f"share of runs of {n} words that occurred before" for n in REPEATED},
    "character_runs": "share of characters in runs of 4 or more equal characters, white space apart",
    "log_longest_run": "natural logarithm of the longest run of equal characters, white space apart",
}  # fmt: skip


def measure(page: Page) -> dict[str, float]:
    """This family's features of a page."""
    lines, words = page.lines, page.words.hash
    order = np.argsort(lines.hash, kind="stable")
    ordered = lines.hash[order]
    again = order[1:][ordered[1:] == ordered[:-1]]
    firsts = _first_words(page)
    runs = _runs(page)
    made = {
        "lines_duplicate": share(len(again), len(lines)),
        "characters_in_duplicate_lines": share(lines.length[again].sum(), lines.length.sum()),
        "lines_same_first_word": share((firsts[1:] == firsts[:-1]).sum(), len(firsts)),
        "top_first_word": share(occurrences(firsts)[:1].sum(), len(firsts)),
        "sentences_same_first_word": share(occurrences(words[page.first_of_sentence])[:1].sum(), len(page.first_of_sentence)),
    }
    for n in NGRAMS:
        top = int(occurrences(runs_of(words, n))[:1].sum())
        made[f"top_{n}_words_in_a_row"] = min(1.0, share(top * n, len(words))) if top > 1 else 0.0
    for n in REPEATED:
        of_n = runs_of(words, n)
        made[f"repeated_{n}_words_in_a_row"] = share(len(of_n) - len(occurrences(of_n)), len(of_n))
    made["character_runs"] = share(runs[runs >= 4].sum(), len(page.kind))
    made["log_longest_run"] = math.log(int(runs.max())) if len(runs) else 0.0
    return made


def _first_words(page: Page) -> np.ndarray:
    """Hash of the first word of each line that has one."""
    first = np.searchsorted(page.words.start, page.lines.start)
    has = np.searchsorted(page.words.start, page.lines.end) > first
    return page.words.hash[first[has]]


def _runs(page: Page) -> np.ndarray:
    """Lengths of the runs of equal characters that are not white space."""
    if not len(page.code):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.append(True, page.code[1:] != page.code[:-1]))
    lengths = np.diff(np.append(starts, len(page.code)))
    return lengths[~page.space[starts]]
