"""The words of a text, as documents are compared by: without case, punctuation and spacing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Words and numbers, composed (NFC) and case-folded; diacritics stay: „sad” is not „sąd”."""
    return WORD.findall(unicodedata.normalize("NFC", text).casefold())


def shingles(text: str, size: int) -> Iterator[str]:
    """Runs of `size` words; of a shorter text all its words as one; of a text without words nothing."""
    found = words(text)
    for start in range(max(1, len(found) - size + 1) if found else 0):
        yield " ".join(found[start : start + size])
