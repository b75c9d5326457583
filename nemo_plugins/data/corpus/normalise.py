"""One form of a text: what encodings, copying and typesetting have done to it is undone, what its author wrote stays."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

import ftfy

from nemo_plugins.data.corpus import quotes

# Quotation marks stay as they are: „these” and «these» are Polish. HTML entities are undone in HTML-free text alone.
FTFY = ftfy.TextFixerConfig(uncurl_quotes=False, fix_latin_ligatures=True, normalization="NFC", explain=False)
BREAKS = re.compile("\r\n|[\x0b\x0c\u2028\u2029]")  # of a line in slides, of a page in PDF, Unicode's own
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060\ufeff]")
SPACES = re.compile(r"[^\S\n]+")
LINES = re.compile(r"\n{3,}")
ROUNDS = 5  # what is removed may have hidden what is mended: Å, a zero-width space and „ are ń read wrongly. Two are usual


def normalise(text: str, replace: Mapping[str, str] | None = None) -> str:
    """A text in NFC, with mended encoding, plain spaces, no control characters and no more than one empty line in a row.

    Args:
        replace: of the language: characters and what stands for them; an opening quotation mark only where a quotation opens.
    """
    for _ in range(ROUNDS):
        before, text = text, _once(text, replace or {})
        if text == before:
            break
    return text


def _once(text: str, replace: Mapping[str, str]) -> str:
    text = ftfy.fix_text(BREAKS.sub("\n", text), FTFY)
    for old, new in replace.items():
        if new not in quotes.OPENING:
            text = text.replace(old, new)
    text = quotes.opened(text, {old: new for old, new in replace.items() if new in quotes.OPENING})
    text = CONTROL.sub("", text)
    text = "\n".join(SPACES.sub(" ", line).strip() for line in text.split("\n"))
    return unicodedata.normalize("NFC", LINES.sub("\n\n", text).strip())
