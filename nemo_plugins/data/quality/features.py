"""The features of a text: all families in one row, and what each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from nemo_plugins.configs.schema import LanguageConfig
from nemo_plugins.data.batches import batches
from nemo_plugins.data.quality import (
    casing,
    characters,
    digits,
    endings,
    information,
    lengths,
    lines,
    markup,
    punctuation,
    repetition,
    words,
)
from nemo_plugins.data.quality.page import PIECE, Pages, lexicon

FAMILIES = (lengths, casing, characters, punctuation, digits, words, repetition, lines, information, markup, endings)
DOCUMENTATION = {name: what for family in FAMILIES for name, what in family.DOCUMENTATION.items()}
NAMES = tuple(DOCUMENTATION)
TOGETHER = 120_000  # characters of samples that are taken apart at once: more no longer saves time, and leaves the cache


class Extractor:
    """Features of many texts of one language; looks its tables up once.

    Picklable; 0.6 MB. Time is bounded by the sample of `page.sample`: about a hundredth of a second for any text.
    """

    def __init__(self, language: LanguageConfig):
        self.lexicon = lexicon(language)

    def features(self, text: str) -> np.ndarray:
        """Features of a text in the order of `NAMES`, float32 `[len(NAMES)]`, all finite."""
        return self.matrix([text])[0]

    def matrix(self, texts: Sequence[str]) -> np.ndarray:
        """Features of texts, float32 `[texts, len(NAMES)]`; each row is what the text alone would have."""
        blocks = [np.zeros((0, len(NAMES)), np.float32)]
        for some in batches(texts, inf, TOGETHER, lambda text: min(len(text), 3 * PIECE)):
            pages = Pages(some, self.lexicon)
            columns = [column for family in FAMILIES for column in family.measure(pages).values()]
            blocks.append(np.stack(columns, axis=1).astype(np.float32))
        return np.concatenate(blocks)


def features(text: str, language: LanguageConfig) -> np.ndarray:
    """Features of one text; `Extractor` for many, which saves looking the language up each time."""
    return Extractor(language).features(text)


def table() -> str:
    """All features as Markdown tables, a family each: what docs/quality.md holds."""
    parts = []
    for family in FAMILIES:
        rows = "".join(f"| `{name}` | {what.replace('|', chr(92) + '|')} |\n" for name, what in family.DOCUMENTATION.items())
        title = (family.__doc__ or "").partition("\n")[0]
        parts.append(f"### {family.__name__.rpartition('.')[2]}\n{title}\n\n| feature | what it is |\n|---|---|\n{rows}")
    return "\n".join(parts)
