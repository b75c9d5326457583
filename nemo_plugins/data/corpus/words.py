"""A text as its words, and runs of words as numbers: what duplicates, contamination and the held-out guard compare.

Two texts are the same to them when their words are: case folded, NFC, accents kept ("sad" is not "sąd"), digits kept, anything
else a gap. So 1.000, 1 000 and 1,000 agree, and so do „cudzysłów” and "cudzysłów"; 1000 is another word. Invisible characters
(soft hyphen, zero-width space, byte order mark) are no gap. datatrove's own Polish tokenizer needs spaCy and drops accents.

Every number here is a function of the text alone: the same in every process, on every machine.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import xxhash

WORD = re.compile(r"[^\W_]+")
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
HAS_INVISIBLE = re.compile("[\u00ad\u200b\u200c\u200d\u2060\ufeff]")
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit of an earlier word is shifted out
CACHED_WORDS = 1 << 18  # about 50 MB a process


class _WordHashes(dict):
    """64-bit hash of each word seen; forgets all of them when full, as text does not run out of new words."""

    def __missing__(self, word: str) -> int:
        if len(self) >= CACHED_WORDS:
            self.clear()
        self[word] = value = xxhash.xxh64_intdigest(word.encode())
        return value


_hashes = _WordHashes()


def words(text: str) -> list[str]:
    """The words of a text in their order, as they are compared (see above)."""
    if HAS_INVISIBLE.search(text):
        text = text.translate(INVISIBLE)
    return WORD.findall(unicodedata.normalize("NFC", text.casefold()))


def word_hashes(words: list[str]) -> np.ndarray:
    """64-bit hash of each word, uint64 `[n]`."""
    return np.fromiter(map(_hashes.__getitem__, words), dtype=np.uint64, count=len(words))


def extend(runs: np.ndarray, hashes: np.ndarray, length: int) -> np.ndarray:
    """From the hashes of all runs of `length - 1` words to those of `length` words, uint64 `[n - length + 1]`.

    Args:
        runs: hashes of runs of `length - 1` words, `[n - length + 2]`.
        hashes: hash of each word, `[n]`.
    """
    return runs[:-1] * BASE + hashes[length - 1 :]


def ngram_hashes(hashes: np.ndarray, n: int) -> np.ndarray:
    """Hash of each run of n words, uint64 `[max(0, words - n + 1)]`: polynomial in the words' hashes, modulo 2^64."""
    if len(hashes) < n:
        return hashes[:0]
    runs = hashes
    for length in range(2, n + 1):
        runs = extend(runs, hashes, length)
    return runs


def shingles(text: str, n: int) -> np.ndarray:
    """The distinct runs of n words of a text, sorted, uint64 `[shingles]`; a shorter text is one run, a wordless one none."""
    hashes = word_hashes(words(text))
    return np.unique(ngram_hashes(hashes, min(n, max(1, len(hashes)))))
