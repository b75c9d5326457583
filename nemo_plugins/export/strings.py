"""Strings on which two tokenizers are held against each other: running text and everything that breaks a conversion."""

from __future__ import annotations

import random
from collections.abc import Sequence

POLISH = "ąćęłńóśźżĄĆĘŁŃÓŚŹŻ"
EMOJI = ("🙂", "👍🏽", "👨\u200d👩\u200d👧", "🇵🇱", "❤️", "🫠", "1️⃣")
OTHER = (
    "ß",
    "ё",
    "дом",
    "漢字",
    "ไทย",
    "שלום",
    "مرحبا",
    "é",
    "e\u0301",
    "a\u0328",
    "ﬁ",
    "№",
    "€",
    "−",
    "…",
    "„",
    "”",
    "\u00a0",
    "\u200b",
)
SPACES = (" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n ")
FIXED = (
    "Zażółć gęślą jaźń", "ZAŻÓŁĆ GĘŚLĄ JAŹŃ", "Pchnąć w tę łódź jeża lub ośm skrzyń fig.", "1 234,56 zł", "12.11.2026 r.",
    "def f(x):\n    return x**2\n", "https://example.org/ścieżka?q=żółw&n=1", r"\boxed{42}", "<b>tekst</b>", "{\"a\": [1, 2]}",
    "   trzy spacje z przodu i z tyłu   ", "\n", " ", "a" * 300, "ż" * 100, "0" * 64, "-" * 40,
)  # fmt: skip


def make(texts: Sequence[str], specials: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` different strings, the same for the same arguments.

    Args:
        texts: documents whose pieces are taken, in the model's language.
        specials: special tokens as text; some strings have them, as a user may type them.
    """
    draw = random.Random(seed)
    words = [word for text in texts[:200] for word in text.split(" ")][:20_000] or list(FIXED)
    parts = [*POLISH, *EMOJI, *OTHER]
    found = dict.fromkeys(FIXED[:count])
    while len(found) < count:
        kind = draw.random()
        if kind < 0.4:  # a run of the text as it is
            start = draw.randrange(len(words))
            found[" ".join(words[start : start + draw.randint(1, 30)])] = None
        elif kind < 0.8:  # words, letters and pictures with any spaces between them
            chosen = (
                draw.choice(words if draw.random() < 0.5 else parts) + draw.choice(SPACES) for _ in range(draw.randint(1, 12))
            )
            found["".join(chosen)] = None
        else:  # special tokens inside
            chosen = (draw.choice(specials if specials and draw.random() < 0.4 else words) for _ in range(draw.randint(2, 8)))
            found[draw.choice(("", " ", "\n")).join(chosen)] = None
    return [text for text in found if text][:count]
