"""A text taken apart once for all feature families: characters, words, tokens and lines as numpy arrays.

A text of more than `3 * PIECE` characters is judged on its first, middle and last `PIECE`, so that no document costs more
than about a tenth of a second. A word is a run of letters, a token a run of anything but white space, a line what ends in a
newline; a sentence ends in `.`, `?`, `!` or `…` before white space, a closing mark or the end, or with its line.
Words and lines are compared by 64-bit polynomial hashes of their lower case: equal ones are equal, others collide by malice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nemo_plugins.configs.schema import LanguageConfig
from nemo_plugins.data.quality import kinds
from nemo_plugins.data.quality.kinds import KIND, LAST_LETTER, PUNCTUATION, SIZE, Tables

PIECE = 20_000  # characters
BASE = 0x9E3779B97F4A7C15  # odd, so that its powers have inverses modulo 2^64
MIX = np.uint64(0xC2B2AE3D27D4EB4F)


def _powers(base: int, length: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.multiply.accumulate(np.concatenate([[np.uint64(1)], np.full(length - 1, base, np.uint64)]))


POWERS, INVERSES = (_powers(base, 3 * PIECE + 8) for base in (BASE, pow(BASE, -1, 1 << 64)))
SPACES = np.zeros(kinds.COUNT, bool)
SPACES[[KIND[name] for name in ("space", "newline", "tab", "other_space")]] = True
UPPER = np.zeros(kinds.COUNT, bool)
UPPER[[KIND[name] for name in ("plain_upper", "own_upper", "foreign_upper")]] = True
STOPS = np.zeros(kinds.COUNT, bool)
STOPS[[KIND[mark] for mark in ".?!…"]] = True
AFTER_STOP = SPACES.copy()
AFTER_STOP[[KIND[mark] for mark in "”\"»)’'"]] = True
LETTER = np.arange(kinds.COUNT) <= LAST_LETTER
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
    return Lexicon(language.code, kinds.tables(language), hashes, own)


def word_hash(word: str) -> int:
    """The hash that `Page.words` has of this word, which is in lower case."""
    return sum(ord(character) * pow(BASE, place, 1 << 64) for place, character in enumerate(word)) % (1 << 64)


@dataclass(frozen=True)
class Spans:
    """Runs of characters: `[start, end)` of each, its length, and the hash of its lower case."""

    start: np.ndarray  # int64 [n]
    end: np.ndarray  # int64 [n]
    length: np.ndarray  # int64 [n]
    hash: np.ndarray  # uint64 [n]

    def __len__(self) -> int:
        return len(self.start)


class Page:
    """One text (its sample), taken apart.

    Attributes:
        characters: length of the whole text.
        kind: of each character of the sample, uint8 `[n]` (`kinds.KIND`); `code` and `lower` its code point, below 65536.
        counts: characters of each kind, int64 `[kinds.COUNT]`.
        letter, upper, space: bool `[n]`.
        words, tokens, lines: spans. Lines have no white space at their ends; empty ones are counted, not kept.
        stop: whether each word is a stop word, bool `[words]`.
    """

    def __init__(self, text: str, lexicon: Lexicon):
        self.characters, self.text, self.lexicon = len(text), sample(text), lexicon
        self.encoded = self.text.encode("utf-8", "surrogatepass")
        codes = np.frombuffer(self.text.encode("utf-32-le", "surrogatepass"), np.uint32)
        self.code = np.minimum(codes, SIZE - 1)
        self.kind = lexicon.tables.kind[self.code]
        self.lower = lexicon.tables.lower[self.code]
        self.counts = np.bincount(self.kind, minlength=kinds.COUNT)
        self.letter, self.upper, self.space = LETTER[self.kind], UPPER[self.kind], SPACES[self.kind]
        self.punctuation = PUNCTUATION[self.kind]
        self._prefix = _before(self.lower * POWERS[: len(self.lower)])
        self.words = self._spans(self.letter)
        self.tokens = self._spans(~self.space)
        place = np.searchsorted(lexicon.stop_hashes, self.words.hash)
        found = lexicon.stop_hashes[np.minimum(place, len(lexicon.stop_hashes) - 1)] if len(lexicon.stop_hashes) else place
        self.stop = found == self.words.hash if len(lexicon.stop_hashes) else np.zeros(len(self.words), bool)
        self.lines, self.empty_lines, self.indented = self._lines()

    def count(self, *names: str) -> int:
        """Characters of these kinds."""
        return int(sum(self.counts[KIND[name]] for name in names))

    @cached_property
    def letters(self) -> int:
        return int(self.counts[1 : LAST_LETTER + 1].sum())

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
        return self.uppers_before[self.words.end] - self.uppers_before[self.words.start]

    @cached_property
    def sentence_ends(self) -> np.ndarray:
        """Place behind each sentence, ascending int64; the last one is the end of the text where it has words behind."""
        if not len(self.kind):
            return np.zeros(0, np.int64)
        stops = np.flatnonzero(STOPS[self.kind])
        followed = AFTER_STOP[self.kind[np.minimum(stops + 1, len(self.kind) - 1)]] | (stops + 1 == len(self.kind))
        ends = np.sort(np.concatenate([stops[followed] + 1, self.lines.end]))
        return ends  # one twice, where a line ends in a stop, is a sentence of no words

    @cached_property
    def sentence_words(self) -> np.ndarray:
        """Words of each sentence that has any, int64."""
        before = np.searchsorted(self.words.start, self.sentence_ends)
        lengths = before.copy()
        lengths[1:] -= before[:-1]
        return lengths[lengths > 0]

    @cached_property
    def first_of_sentence(self) -> np.ndarray:
        """Number of the first word of each sentence that has any, int64."""
        return np.cumsum(self.sentence_words) - self.sentence_words

    @cached_property
    def word_counts(self) -> np.ndarray:
        """How often each distinct word occurs, descending, int64."""
        return occurrences(self.words.hash)

    def line_words(self) -> np.ndarray:
        """Words of each line, int64 `[lines]`."""
        return np.searchsorted(self.words.start, self.lines.end) - np.searchsorted(self.words.start, self.lines.start)

    def _spans(self, inside: np.ndarray) -> Spans:
        return self._hashed(*edges(inside))

    def _hashed(self, start: np.ndarray, end: np.ndarray) -> Spans:
        return Spans(start, end, end - start, (self._prefix[end] - self._prefix[start]) * INVERSES[start])

    def _lines(self) -> tuple[Spans, int, int]:
        breaks = np.flatnonzero(self.kind == KIND["newline"])
        start, end = np.append(0, breaks + 1), np.append(breaks, len(self.kind))
        # trimmed to the first and last token that lies in the line
        first, last = np.searchsorted(self.tokens.start, start), np.searchsorted(self.tokens.start, end)
        full = last > first
        trimmed, ends = self.tokens.start[first[full]], self.tokens.end[last[full] - 1]
        empty = len(start) - int(full.sum()) - (1 if not full[-1] else 0)  # a newline at the end begins no line
        return self._hashed(trimmed, ends), max(0, empty), int((trimmed > start[full]).sum())


def occurrences(hashes: np.ndarray) -> np.ndarray:
    """How often each distinct hash occurs, descending, int64."""
    if not len(hashes):
        return np.zeros(0, np.int64)
    ordered = np.sort(hashes)
    new = np.ones(len(ordered) + 1, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:-1])
    starts = np.flatnonzero(new)
    return np.sort(starts[1:] - starts[:-1])[::-1]


def runs_of(hashes: np.ndarray, n: int) -> np.ndarray:
    """Hash of each run of n neighbours, uint64."""
    if len(hashes) < n:
        return hashes[:0]
    made = hashes
    for length in range(2, n + 1):
        made = made[:-1] * MIX + hashes[length - 1 :]
    return made


def count(marked: np.ndarray) -> int:
    """True values; several times faster than `sum` on the short arrays of most documents."""
    return int(np.count_nonzero(marked))


def edges(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each run of True, int64."""
    padded = np.zeros(len(inside) + 2, bool)
    padded[1:-1] = inside
    found = np.flatnonzero(padded[1:] != padded[:-1])
    return found[::2], found[1::2]


def share(part: float, whole: float) -> float:
    """`part / whole`, 0 where there is nothing."""
    return float(part) / float(whole) if whole else 0.0


def entropy(counts: np.ndarray) -> float:
    """Shannon entropy of counts, bits."""
    counts = counts[counts > 0]
    if len(counts) < 2:
        return 0.0
    total = float(counts.sum())
    return float(np.log2(total) - (counts * np.log2(counts)).sum() / total)


def mean(values: np.ndarray) -> float:
    return float(values.sum() / len(values)) if len(values) else 0.0


def spread(values: np.ndarray) -> float:
    """Standard deviation, 0 of nothing."""
    if len(values) < 2:
        return 0.0
    values = values.astype(np.float64)
    middle = values.sum() / len(values)
    return float(np.sqrt(max(0.0, (values * values).sum() / len(values) - middle * middle)))


def _before(values: np.ndarray) -> np.ndarray:
    """Running sum of what is before each place, `[n + 1]`; uint64 wraps around, as hashes want it."""
    total = np.zeros(len(values) + 1, np.uint64 if values.dtype == np.uint64 else np.int64)
    np.cumsum(values, out=total[1:])
    return total
