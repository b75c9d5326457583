"""Texts taken apart once for all feature families: characters, words, tokens and lines as numpy arrays.

Many texts are one array, each with a newline behind it that counts for nothing: what numpy costs for each call is shared by all
of them, which for documents of a thousand characters is most of the time. No feature of a text depends on what is beside it.

A text of more than `3 * PIECE` characters is judged on its first, middle and last `PIECE`, so that no document costs more
than a hundredth of a second. A word is a run of letters, a token a run of anything but white space, a line what ends in a
newline; a sentence ends in `.`, `?`, `!` or `…` before white space, a closing mark or the end, or with its line.
Words and lines are compared by 64-bit polynomial hashes of their lower case: equal ones are equal, others collide by malice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nemo_plugins.configs.schema import LanguageConfig
from nemo_plugins.data.quality import character_kinds
from nemo_plugins.data.quality.character_kinds import KIND, LAST_LETTER, PUNCTUATION, SIZE, Tables, one_of

PIECE = 20_000  # characters
BASE = 0x9E3779B97F4A7C15  # odd, so that its powers have inverses modulo 2^64
MIX = np.uint64(0xC2B2AE3D27D4EB4F)


def _powers(base: int, length: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.multiply.accumulate(np.concatenate([[np.uint64(1)], np.full(length - 1, base, np.uint64)]))


POWERS, INVERSES = (_powers(base, 3 * PIECE + 8) for base in (BASE, pow(BASE, -1, 1 << 64)))
SPACES = one_of(("space", "newline", "tab", "other_space"))
UPPER = one_of(("plain_upper", "own_upper", "foreign_upper"))
STOPS = one_of(".?!…")
AFTER_STOP = SPACES | one_of("”\"»)’'")
LETTER = np.arange(character_kinds.COUNT) <= LAST_LETTER
LETTER[0] = False


def sample(text: str) -> str:
    """The part of a text that is judged: all of it, or its first, middle and last `PIECE` characters on lines of their own."""
    if len(text) <= 3 * PIECE:
        return text
    middle = (len(text) - PIECE) // 2
    return "\n".join((text[:PIECE], text[middle : middle + PIECE], text[-PIECE:]))


@dataclass(frozen=True)
class Lexicon:
    """What of a language the features look up: made once a language (`lexicon`)."""

    code: str
    tables: Tables
    stop_hashes: np.ndarray  # uint64, sorted
    own_letters: np.ndarray  # code points of its letters outside ASCII, lower case, int64


def lexicon(language: LanguageConfig) -> Lexicon:
    """Tables and hashed stop words of a language."""
    hashes = np.array(sorted(word_hash(word) for word in language.stop_words), np.uint64)
    own = np.array(sorted(ord(letter) for letter in set(language.alphabet.lower()) if not letter.isascii()), np.int64)
    return Lexicon(language.code, character_kinds.tables(language), hashes, own)


def word_hash(word: str) -> int:
    """The hash that `Page.words` has of this word, which is in lower case."""
    return sum(ord(character) * pow(BASE, place, 1 << 64) for place, character in enumerate(word)) % (1 << 64)


class Group:
    """Things of several texts, in the order of the texts.

    Attributes:
        owner: number of the text that each is of, ascending int64 `[n]`.
        first, last: those of each text are `[first, last)`, `[texts]`; `count` is how many.
    """

    def __init__(self, owner: np.ndarray, texts: int):
        self.owner, self.texts = owner, texts
        self.first = np.searchsorted(owner, np.arange(texts))
        self.last = np.searchsorted(owner, np.arange(texts), side="right")
        self.count = self.last - self.first

    def __len__(self) -> int:
        return len(self.owner)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum of integers or count of what is marked, int64 `[texts]`."""
        total = _before(values)
        return total[self.last] - total[self.first]

    def most(self, values: np.ndarray) -> np.ndarray:
        """Largest value, 0 of none, int64 `[texts]`."""
        largest = np.zeros(self.texts, np.int64)
        filled = self.count > 0
        if filled.any():
            largest[filled] = np.maximum.reduceat(values, self.first[filled])
        return largest

    def follows(self) -> np.ndarray:
        """Whether each has one of the same text before it, bool `[n]`."""
        marked = np.ones(len(self), bool)
        marked[self.first[self.count > 0]] = False
        return marked

    def mean(self, values: np.ndarray) -> np.ndarray:
        return share(self.sum(values), self.count)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Standard deviation of integers, 0 of fewer than two."""
        middle = self.mean(values)
        return np.sqrt(np.maximum(0.0, share(self.sum(values * values), self.count) - middle * middle)) * (self.count > 1)

    def median(self, values: np.ndarray) -> np.ndarray:
        """Median of integers from 0 to below 2^31, 0 of none."""
        if not len(values):
            return np.zeros(self.texts)
        ordered = np.sort((self.owner << 32) | values) & 0x7FFFFFFF
        low = np.minimum(self.first + np.maximum(0, self.count - 1) // 2, len(values) - 1)
        high = np.minimum(self.first + self.count // 2, len(values) - 1)
        return np.where(self.count > 0, (ordered[low] + ordered[high]) / 2, 0.0)


class Spans(Group):
    """Runs of characters: `[start, end)` of each, its length, and the hash of its lower case, uint64."""

    def __init__(self, owner, texts, start, end, length, hash):
        super().__init__(owner, texts)
        self.start = start
        self.end = end
        self.length = length
        self.hash = hash

    def among(self, before: np.ndarray) -> np.ndarray:
        """Marked characters of each, int64 `[n]`; `before`: those before each place, as `Pages.letters_before`."""
        return before[self.end] - before[self.start]


class Pages:
    """Texts (their samples), taken apart. Arrays over all of them are `[n]`, over the texts `[texts]`.

    Attributes:
        texts: the samples; `characters`: lengths of the whole texts.
        start, end: where each text lies, `[texts]`; `length`: its sample's characters.
        owner: number of the text that each character is of; `inside` is False for the newlines between texts.
        kind: of each character, uint8 (`kinds.KIND`); `code` and `lower` its code point, below 65536.
        counts: characters of each kind, `[texts, kinds.COUNT]`.
        letter, upper, space, punctuation: bool.
        words, tokens, lines: spans. Lines have no white space at their ends; empty ones are counted, not kept.
        stop: whether each word is a stop word.
    """

    def __init__(self, texts: Sequence[str], lexicon: Lexicon):
        self.lexicon, self.texts = lexicon, [sample(text) for text in texts]
        self.characters = np.array([len(text) for text in texts], np.int64)
        self.length = np.array([len(text) for text in self.texts], np.int64)
        self.start = np.cumsum(self.length + 1) - self.length - 1
        self.end = self.start + self.length
        self.owner = np.repeat(np.arange(len(texts)), self.length + 1)
        codes = np.frombuffer("".join(f"{text}\n" for text in self.texts).encode("utf-32-le", "surrogatepass"), np.uint32)
        self.inside = np.ones(len(codes), bool)
        self.inside[self.end] = False
        self.code = np.minimum(codes, SIZE - 1)
        self.kind = lexicon.tables.kind[self.code]
        self.lower = lexicon.tables.lower[self.code]
        self.counts = self.histogram(self.kind, character_kinds.COUNT)
        self.letter = LETTER[self.kind]
        self.upper = UPPER[self.kind]
        self.space = SPACES[self.kind]
        self.punctuation = PUNCTUATION[self.kind]
        self._place = np.arange(len(codes)) - self.start[self.owner]  # in its own text
        self._prefix = _before(self.lower * POWERS[self._place])
        self.words = self._spans(self.letter)
        self.tokens = self._spans(~self.space)
        self.stop = np.zeros(len(self.words), bool)
        if len(lexicon.stop_hashes):
            place = np.searchsorted(lexicon.stop_hashes, self.words.hash)
            self.stop = lexicon.stop_hashes[np.minimum(place, len(lexicon.stop_hashes) - 1)] == self.words.hash
        self.lines, self.empty_lines, self.indented = self._lines()

    def __len__(self) -> int:
        return len(self.texts)

    def count(self, *names: str) -> np.ndarray:
        """Characters of these kinds, `[texts]`."""
        return self.counts[:, [KIND[name] for name in names]].sum(axis=1)

    def histogram(self, values: np.ndarray, size: int) -> np.ndarray:
        """How often each text's characters have each value, `[texts, size]`; values are below `size`."""
        flat = (self.owner * size + values)[self.inside]
        return np.bincount(flat, minlength=len(self) * size).reshape(len(self), size)

    def sum(self, marked: np.ndarray) -> np.ndarray:
        """Marked characters of each text, `[texts]`."""
        return self._between(marked, self.start, self.end)

    def pairs(self, marked: np.ndarray) -> np.ndarray:
        """Marked pairs of neighbouring characters, `[texts]`; `marked[i]` is of i and i + 1."""
        return self._between(marked, self.start, np.maximum(self.start, self.end - 1))

    def triples(self, marked: np.ndarray) -> np.ndarray:
        """The same of three in a row."""
        return self._between(marked, self.start, np.maximum(self.start, self.end - 2))

    def _between(self, marked: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        places = np.flatnonzero(marked)
        return np.searchsorted(places, end) - np.searchsorted(places, start)

    def in_runs(self, marked: np.ndarray, least: int) -> np.ndarray:
        """Characters in runs of at least so many marked ones, `[texts]`."""
        start, end = edges(marked)
        long = end - start >= least
        return np.bincount(self.owner[start[long]], (end - start)[long], len(self))

    @cached_property
    def letters(self) -> np.ndarray:
        return self.counts[:, 1 : LAST_LETTER + 1].sum(axis=1)

    @cached_property
    def uppers_before(self) -> np.ndarray:
        """Upper-case letters before each place, int64 `[n + 1]`."""
        return _before(self.upper)

    @cached_property
    def letters_before(self) -> np.ndarray:
        return _before(self.letter)

    @cached_property
    def digits_before(self) -> np.ndarray:
        return _before((self.kind == KIND["digit"]) | (self.kind == KIND["other_digit"]))

    @cached_property
    def word_uppers(self) -> np.ndarray:
        """Upper-case letters of each word, int64 `[words]`."""
        return self.words.among(self.uppers_before)

    @cached_property
    def _sentences(self) -> np.ndarray:
        """Words of each sentence that has any. A text's last sentence ends with its last line."""
        stops = np.flatnonzero(STOPS[self.kind])
        ends = np.sort(np.concatenate([stops[AFTER_STOP[self.kind[stops + 1]]] + 1, self.lines.end]))
        lengths = np.diff(np.searchsorted(self.words.start, ends), prepend=0)
        return lengths[lengths > 0]  # one twice, where a line ends in a stop, is a sentence of no words

    @cached_property
    def first_of_sentence(self) -> np.ndarray:
        """Number of the first word of each sentence that has any, int64."""
        return np.cumsum(self._sentences) - self._sentences

    @cached_property
    def sentences(self) -> Group:
        return Group(self.words.owner[self.first_of_sentence], len(self))

    @cached_property
    def sentence_words(self) -> np.ndarray:
        """Words of each sentence that has any, int64."""
        return self._sentences

    @cached_property
    def line_words(self) -> np.ndarray:
        """Words of each line, int64 `[lines]`."""
        return np.searchsorted(self.words.start, self.lines.end) - np.searchsorted(self.words.start, self.lines.start)

    def _spans(self, inside: np.ndarray) -> Spans:
        return self._hashed(*edges(inside))

    def _hashed(self, start: np.ndarray, end: np.ndarray) -> Spans:
        hashes = (self._prefix[end] - self._prefix[start]) * INVERSES[self._place[start]]
        return Spans(self.owner[start], len(self), start, end, end - start, hashes)

    def _lines(self) -> tuple[Spans, np.ndarray, np.ndarray]:
        end = np.flatnonzero(self.kind == KIND["newline"])
        start = np.append(0, end[:-1] + 1)
        # trimmed to the first and last token that lies in the line
        first, last = np.searchsorted(self.tokens.start, start), np.searchsorted(self.tokens.start, end)
        full = last > first
        trimmed, ends = self.tokens.start[first[full]], self.tokens.end[last[full] - 1]
        spans, every = self._hashed(trimmed, ends), Group(self.owner[start], len(self))
        closing = np.searchsorted(end, self.end)  # a newline at the end of a text begins no line
        empty = np.maximum(0, every.count - spans.count - ~full[closing])
        indented = np.bincount(spans.owner[trimmed > start[full]], minlength=len(self))
        return spans, empty, indented


class Occurrences(Group):
    """The distinct hashes of each text and how often each occurs: `times`, descending within a text."""

    def __init__(self, owner: np.ndarray, hashes: np.ndarray, texts: int):
        # the text's number above 48 bits of the hash, which is mixed first: one of a single letter is a small number
        key = np.sort((owner.astype(np.uint64) << np.uint64(48)) | ((hashes * MIX) >> np.uint64(16)))
        new = np.ones(len(key) + 1, bool)
        np.not_equal(key[1:], key[:-1], out=new[1:-1])
        starts = np.flatnonzero(new) if len(key) else np.zeros(1, np.int64)
        times, owners = np.diff(starts), (key[starts[:-1]] >> np.uint64(48)).astype(np.int64)
        ordered = np.sort((owners << 32) | (0x7FFFFFFF - times))
        super().__init__(ordered >> 32, texts)
        self.times = 0x7FFFFFFF - (ordered & 0x7FFFFFFF)

    def top(self, number: int) -> np.ndarray:
        """How often the commonest `number` occur together, `[texts]`."""
        rank = np.arange(len(self)) - self.first[self.owner]
        return self.sum(np.where(rank < number, self.times, 0))

    def entropy(self) -> np.ndarray:
        """Shannon entropy, bits, `[texts]`."""
        return entropies(self.owner, self.times, self.texts)


def entropies(owner: np.ndarray, counts: np.ndarray, texts: int) -> np.ndarray:
    """Shannon entropy of each text's positive counts, bits, `[texts]`."""
    total = np.bincount(owner, counts, texts)
    weighted = np.bincount(owner, counts * np.log2(counts), texts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(0.0, np.where(total > 0, np.log2(total) - weighted / total, 0.0))


def entropy(histogram: np.ndarray) -> np.ndarray:
    """Shannon entropy of each row, bits, `[texts]`."""
    counts = np.ascontiguousarray(histogram).ravel()
    filled = np.flatnonzero(counts)
    return entropies(filled // histogram.shape[1], counts[filled], len(histogram))


def runs_of(words: Spans, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(text, hash) of each run of n neighbours within a text: int64, uint64."""
    if len(words) < n:
        return words.owner[:0], words.hash[:0]
    hashes = words.hash
    for length in range(2, n + 1):
        hashes = hashes[:-1] * MIX + words.hash[length - 1 :]
    whole = words.owner[: len(hashes)] == words.owner[n - 1 :]
    return words.owner[: len(hashes)][whole], hashes[whole]


def edges(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each run of True, int64."""
    padded = np.zeros(len(inside) + 2, bool)
    padded[1:-1] = inside
    places = np.flatnonzero(padded[1:] != padded[:-1])
    return places[::2], places[1::2]


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, 0 where there is nothing, float64."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)


def _before(values: np.ndarray) -> np.ndarray:
    """Running sum of what is before each place, `[n + 1]`; uint64 wraps around, as hashes want it."""
    total = np.zeros(len(values) + 1, np.uint64 if values.dtype == np.uint64 else np.int64)
    np.cumsum(values, out=total[1:])
    return total
