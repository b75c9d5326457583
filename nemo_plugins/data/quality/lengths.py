"""How long the text, its words and its sentences are."""

from __future__ import annotations

import math

import numpy as np

from nemo_plugins.data.quality.page import Page, count, mean, share, spread

DOCUMENTATION = {
    "log_characters": "natural logarithm of 1 + characters of the whole document",
    "log_words": "natural logarithm of 1 + words of the sample",
    "log_lines": "natural logarithm of 1 + lines that are not empty",
    "word_length_mean": "mean letters of a word",
    "word_length_std": "standard deviation of a word's letters",
    "words_1": "share of words of one letter",
    "words_2_3": "share of words of 2 or 3 letters",
    "words_7_9": "share of words of 7 to 9 letters",
    "words_10_15": "share of words of 10 to 15 letters",
    "words_16": "share of words of 16 letters or more",
    "log_longest_word": "natural logarithm of 1 + letters of the longest word",
    "token_length_mean": "mean characters of a token (a run of anything but white space)",
    "tokens_30": "share of characters in tokens of more than 30 characters",
    "log_longest_token": "natural logarithm of 1 + characters of the longest token",
    "sentence_words_mean": "mean words of a sentence",
    "sentence_words_std": "standard deviation of a sentence's words",
    "sentences_short": "share of sentences of at most 3 words",
    "sentences_long": "share of sentences of more than 40 words",
}


def measure(page: Page) -> dict[str, float]:
    """This family's features of a page."""
    words, tokens, sentences = page.words.length, page.tokens.length, page.sentence_words
    up_to = np.cumsum(np.bincount(np.minimum(words, 17), minlength=18)).tolist()
    return {
        "log_characters": math.log1p(page.characters),
        "log_words": math.log1p(len(words)),
        "log_lines": math.log1p(len(page.lines)),
        "word_length_mean": mean(words),
        "word_length_std": spread(words),
        "words_1": share(up_to[1], len(words)),
        "words_2_3": share(up_to[3] - up_to[1], len(words)),
        "words_7_9": share(up_to[9] - up_to[6], len(words)),
        "words_10_15": share(up_to[15] - up_to[9], len(words)),
        "words_16": share(up_to[17] - up_to[15], len(words)),
        "log_longest_word": _log_longest(words),
        "token_length_mean": mean(tokens),
        "tokens_30": share(tokens[tokens > 30].sum(), tokens.sum()),
        "log_longest_token": _log_longest(tokens),
        "sentence_words_mean": mean(sentences),
        "sentence_words_std": spread(sentences),
        "sentences_short": share(count(sentences <= 3), len(sentences)),
        "sentences_long": share(count(sentences > 40), len(sentences)),
    }


def _log_longest(lengths: np.ndarray) -> float:
    return math.log1p(int(lengths.max())) if len(lengths) else 0.0
