"""Repetition: of lines, of runs of words, of characters."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.page import Group, Occurrences, Pages, runs_of, share

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


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    lines, words = pages.lines, pages.words
    order = np.lexsort((np.arange(len(lines)), lines.hash, lines.owner))
    ordered, owner = lines.hash[order], lines.owner[order]
    repeats = np.zeros(len(lines), bool)
    repeats[order[1:]] = (ordered[1:] == ordered[:-1]) & (owner[1:] == owner[:-1])
    firsts, hashes = _first_words(pages)
    same = firsts.follows()
    same[1:] &= hashes[1:] == hashes[:-1]
    first = pages.first_of_sentence
    begin_lines = Occurrences(firsts.owner, hashes, len(pages))
    begin_sentences = Occurrences(words.owner[first], words.hash[first], len(pages))
    runs, lengths = _runs(pages)
    features = {
        "lines_duplicate": share(lines.sum(repeats), lines.count),
        "characters_in_duplicate_lines": share(lines.sum(lines.length * repeats), lines.sum(lines.length)),
        "lines_same_first_word": share(firsts.sum(same), firsts.count),
        "top_first_word": share(begin_lines.top(1), firsts.count),
        "sentences_same_first_word": share(begin_sentences.top(1), pages.sentences.count),
    }
    for n in NGRAMS:
        top = Occurrences(*runs_of(words, n), len(pages)).top(1)
        features[f"top_{n}_words_in_a_row"] = np.where(top > 1, np.minimum(1.0, share(top * n, words.count)), 0.0)
    for n in REPEATED:
        owner, hashes = runs_of(words, n)
        distinct, every = Occurrences(owner, hashes, len(pages)).count, np.bincount(owner, minlength=len(pages))
        features[f"repeated_{n}_words_in_a_row"] = share(every - distinct, every)
    features["character_runs"] = share(runs.sum(np.where(lengths >= 4, lengths, 0)), pages.length)
    features["log_longest_run"] = np.log(np.maximum(1, runs.most(lengths)))
    return features


def _first_words(pages: Pages) -> tuple[Group, np.ndarray]:
    """The lines that have a word, and the hash of the first of each."""
    first = np.searchsorted(pages.words.start, pages.lines.start)
    has = np.searchsorted(pages.words.start, pages.lines.end) > first
    return Group(pages.lines.owner[has], len(pages)), pages.words.hash[first[has]]


def _runs(pages: Pages) -> tuple[Group, np.ndarray]:
    """The runs of equal characters that are not white space, and their lengths."""
    starts = np.flatnonzero(np.append(True, pages.code[1:] != pages.code[:-1]))
    lengths = np.diff(np.append(starts, len(pages.code)))
    dark = ~pages.space[starts]
    return Group(pages.owner[starts[dark]], len(pages)), lengths[dark]
