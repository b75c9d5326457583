"""How long the text, its words and its sentences are."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.page import Pages, share

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


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    words, tokens, sentences, of = pages.words, pages.tokens, pages.sentences, pages.sentence_words
    length, every = words.length, words.count

    def within(least: int, most: float) -> np.ndarray:
        return share(words.sum((length >= least) & (length <= most)), every)

    return {
        "log_characters": np.log1p(pages.characters),
        "log_words": np.log1p(every),
        "log_lines": np.log1p(pages.lines.count),
        "word_length_mean": words.mean(length),
        "word_length_std": words.spread(length),
        "words_1": within(1, 1),
        "words_2_3": within(2, 3),
        "words_7_9": within(7, 9),
        "words_10_15": within(10, 15),
        "words_16": within(16, np.inf),
        "log_longest_word": np.log1p(words.most(length)),
        "token_length_mean": tokens.mean(tokens.length),
        "tokens_30": share(tokens.sum(np.where(tokens.length > 30, tokens.length, 0)), tokens.sum(tokens.length)),
        "log_longest_token": np.log1p(tokens.most(tokens.length)),
        "sentence_words_mean": sentences.mean(of),
        "sentence_words_std": sentences.spread(of),
        "sentences_short": share(sentences.sum(of <= 3), sentences.count),
        "sentences_long": share(sentences.sum(of > 40), sentences.count),
    }
