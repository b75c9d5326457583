"""Words: stop words and where they stand, vocabulary, and words that are none."""

from __future__ import annotations

import math

import numpy as np

from nemo_plugins.data.quality.kinds import KIND
from nemo_plugins.data.quality.page import Page, count, entropy, occurrences, share

DOCUMENTATION = {
    "stop_words": "share of words that are stop words of the language",
    "stop_word_kinds": "distinct stop words over the square root of the words",
    "stop_word_pairs": "share of stop words that follow a stop word",
    "stop_word_gap_longest": "longest run of words without a stop word, as a natural logarithm of 1 + it",
    "stop_words_before_comma": "share of stop words directly before a comma",
    "stop_words_before_stop": "share of stop words directly before a full stop, question or exclamation mark",
    "stop_words_behind_comma": "share of commas whose next word is a stop word",
    "sentences_from_stop_word": "share of sentences that begin with a stop word",
    "lines_without_stop_words": "share of lines of 4 words or more without a stop word",
    "vocabulary_log": "logarithm of distinct words over logarithm of words, at least 2 of them",
    "words_once": "share of words that occur once",
    "top_word": "share of words that are the commonest one",
    "top_10_words": "share of words that are one of the commonest 10",
    "top_content_word": "share of words that are the commonest one that is no stop word",
    "word_entropy": "entropy of the words over the logarithm of their number",
    "words_repeated": "share of words that are the word before them",
    "words_without_vowel": "share of words of 2 letters or more without a vowel",
    "words_with_triples": "share of words with three equal letters in a row",
    "single_letters": "share of words that are one letter and no stop word",
}


def measure(page: Page) -> dict[str, float]:
    """This family's features of a page."""
    hashes, counts, stop = page.words.hash, page.word_counts, page.stop
    words, stops = len(hashes), int(stop.sum())
    places = np.flatnonzero(stop)
    gaps = np.diff(places, prepend=-1, append=words) - 1
    behind = page.kind[np.minimum(page.words.end, len(page.kind) - 1)] if words else np.zeros(0, np.uint8)
    behind = np.where(page.words.end < len(page.kind), behind, 0)
    before_comma = behind == KIND[","]
    before_stop = (behind == KIND["."]) | (behind == KIND["?"]) | (behind == KIND["!"])
    content = occurrences(hashes[~stop])
    line_words = page.line_words()
    return {
        "stop_words": share(stops, words),
        "stop_word_kinds": share(len(counts) - len(content), max(1, words) ** 0.5),
        "stop_word_pairs": share((stop[1:] & stop[:-1]).sum(), stops),
        "stop_word_gap_longest": math.log1p(int(gaps.max())),
        "stop_words_before_comma": share((stop & before_comma).sum(), stops),
        "stop_words_before_stop": share((stop & before_stop).sum(), stops),
        "stop_words_behind_comma": share((before_comma[:-1] & stop[1:]).sum(), before_comma.sum()),
        "sentences_from_stop_word": share(stop[page.first_of_sentence].sum(), len(page.first_of_sentence)),
        "lines_without_stop_words": _lines_without(page, line_words),
        "vocabulary_log": math.log(len(counts)) / math.log(words) if words > 1 else 0.0,
        "words_once": share(count(counts == 1), words),
        "top_word": share(counts[:1].sum(), words),
        "top_10_words": share(counts[:10].sum(), words),
        "top_content_word": share(content[:1].sum(), words),
        "word_entropy": entropy(counts) / math.log2(words) if words > 1 else 0.0,
        "words_repeated": share((hashes[1:] == hashes[:-1]).sum(), words),
        "words_without_vowel": share(_without_vowel(page), words),
        "words_with_triples": share(_with_triples(page), words),
        "single_letters": share(((page.words.length == 1) & ~stop).sum(), words),
    }


def _lines_without(page: Page, line_words: np.ndarray) -> float:
    starts = page.words.start[page.stop]
    stops = np.searchsorted(starts, page.lines.end) - np.searchsorted(starts, page.lines.start)
    long = line_words >= 4
    return share((long & (stops == 0)).sum(), long.sum())


def _without_vowel(page: Page) -> int:
    vowels = np.cumsum(np.append(0, page.lexicon.tables.vowel[page.lower]))
    return int(((vowels[page.words.end] == vowels[page.words.start]) & (page.words.length > 1)).sum())


def _with_triples(page: Page) -> int:
    same = page.lower[1:] == page.lower[:-1]
    places = np.flatnonzero(same[1:] & same[:-1] & page.letter[2:])
    if not len(places):
        return 0
    return len(np.unique(np.searchsorted(page.words.start, places, side="right")))
