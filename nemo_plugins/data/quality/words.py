"""Words: stop words and where they stand, vocabulary, and words that are none."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.character_kinds import KIND, one_of
from nemo_plugins.data.quality.page import Group, Occurrences, Pages, share

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


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    words, stop, tables = pages.words, pages.stop, pages.lexicon.tables
    every, stops = words.count, words.sum(stop)
    all_words = Occurrences(words.owner, words.hash, len(pages))
    content = Occurrences(words.owner[~stop], words.hash[~stop], len(pages))
    behind = pages.kind[words.end]  # never beyond the end: a newline stands behind each text
    before_comma = behind == KIND[","]
    before_stop = one_of(".?!")[behind]
    again = words.follows()
    pair, comma = again.copy(), again.copy()
    pair[1:] &= stop[1:] & stop[:-1]
    comma[1:] &= before_comma[:-1] & stop[1:]
    again[1:] &= words.hash[1:] == words.hash[:-1]
    vowels = np.cumsum(np.append(0, tables.vowel[pages.lower]))
    return {
        "stop_words": share(stops, every),
        "stop_word_kinds": share(all_words.count - content.count, np.sqrt(np.maximum(1, every))),
        "stop_word_pairs": share(words.sum(pair), stops),
        "stop_word_gap_longest": np.log1p(_longest_gap(pages)),
        "stop_words_before_comma": share(words.sum(stop & before_comma), stops),
        "stop_words_before_stop": share(words.sum(stop & before_stop), stops),
        "stop_words_behind_comma": share(words.sum(comma), words.sum(before_comma)),
        "sentences_from_stop_word": share(pages.sentences.sum(stop[pages.first_of_sentence]), pages.sentences.count),
        "lines_without_stop_words": _lines_without(pages),
        "vocabulary_log": share(np.log(np.maximum(1, all_words.count)), np.log(np.maximum(1, every))),
        "words_once": share(all_words.sum(all_words.times == 1), every),
        "top_word": share(all_words.top(1), every),
        "top_10_words": share(all_words.top(10), every),
        "top_content_word": share(content.top(1), every),
        "word_entropy": share(all_words.entropy(), np.log2(np.maximum(1, every))),
        "words_repeated": share(words.sum(again), every),
        "words_without_vowel": share(words.sum((words.among(vowels) == 0) & (words.length > 1)), every),
        "words_with_triples": share(words.sum(_with_triple(pages)), every),
        "single_letters": share(words.sum((words.length == 1) & ~stop), every),
    }


def _longest_gap(pages: Pages) -> np.ndarray:
    """Longest run of words without a stop word."""
    words, places = pages.words, np.flatnonzero(pages.stop)
    stops = Group(words.owner[places], len(pages))
    before = np.where(stops.follows(), np.append(-1, places[:-1])[: len(places)], words.first[stops.owner] - 1)
    inside = stops.most(places - before - 1)
    final = places[np.maximum(0, stops.last - 1)] if len(places) else np.zeros(len(pages), np.int64)
    behind = words.last - 1 - np.where(stops.count > 0, final, words.first - 1)
    return np.maximum(inside, behind)


def _lines_without(pages: Pages) -> np.ndarray:
    lines, starts = pages.lines, pages.words.start[pages.stop]
    stops = np.searchsorted(starts, lines.end) - np.searchsorted(starts, lines.start)
    long = pages.line_words >= 4
    return share(lines.sum(long & (stops == 0)), lines.sum(long))


def _with_triple(pages: Pages) -> np.ndarray:
    """Whether three equal letters in a row end in each word."""
    same = pages.lower[1:] == pages.lower[:-1]
    places = np.flatnonzero(same[1:] & same[:-1] & pages.letter[2:]) + 2
    return np.searchsorted(places, pages.words.end) > np.searchsorted(places, pages.words.start)
