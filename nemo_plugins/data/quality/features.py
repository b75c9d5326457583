"""The features of a text: all families in one row, and what each of them is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nemo_plugins.configs.schema import LanguageConfig
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
from nemo_plugins.data.quality.page import Page, lexicon

FAMILIES = (lengths, casing, characters, punctuation, digits, words, repetition, lines, information, markup, endings)
DOCUMENTATION = {name: what for family in FAMILIES for name, what in family.DOCUMENTATION.items()}
NAMES = tuple(DOCUMENTATION)


class Extractor:
    """Features of many texts of one language; looks its tables up once.

    Picklable; 0.6 MB. Time is bounded by the sample of `page.sample`: about a twentieth of a second for any text.
    """

    def __init__(self, language: LanguageConfig):
        self.lexicon = lexicon(language)

    def features(self, text: str) -> np.ndarray:
        """Features of a text in the order of `NAMES`, float32 `[len(NAMES)]`, all finite."""
        page = Page(text, self.lexicon)
        return np.array([value for family in FAMILIES for value in family.measure(page).values()], np.float32)

    def matrix(self, texts: Iterable[str]) -> np.ndarray:
        """Features of texts, float32 `[texts, len(NAMES)]`."""
        rows = [self.features(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, len(NAMES)), np.float32)


def features(text: str, language: LanguageConfig) -> np.ndarray:
    """Features of one text; `Extractor` for many, which saves looking the language up each time."""
    return Extractor(language).features(text)


def table() -> str:
    """All features as Markdown tables, a family each: what docs/quality.md holds."""
    parts = []
    for family in FAMILIES:
        rows = "".join(f"| `{name}` | {what.replace('|', chr(92) + '|')} |\n" for name, what in family.DOCUMENTATION.items())
        title = family.__doc__.splitlines()[0]
        parts.append(f"### {family.__name__.rpartition('.')[2]}\n{title}\n\n| feature | what it is |\n|---|---|\n{rows}")
    return "\n".join(parts)
