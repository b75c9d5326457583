"""How much of a completion is in the language: Polish, unless another is set."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from nemo_plugins.configs import language as languages

# Own choice: what models drift into. Among all of py3langid's 97 a short Polish sentence is too often taken for Slovene.
OTHERS = ("en", "de", "fr", "es", "it", "pt", "cs", "sk", "hu", "ru", "uk", "zh", "ja", "ko", "ar", "tr", "sw")
PIECE, PIECES = 300, 40  # characters each, spread over a long completion
FEWEST_LETTERS = 25  # below, only the alphabet tells

_CODE = re.compile(
    r"```.*?(?:```|\Z)|<tool_call>.*?(?:</tool_call>|\Z)|`[^`\n]{0,200}`|\$[^$\n]{0,300}\$|\\[A-Za-z]++", re.DOTALL
)


def polish_language(prompt: str, completion: str, reference: str, *, language: str = "pl") -> float:
    """The share of letters in pieces of the completion that are in the language, 0.0 … 1.0.

    Code, formulas and calls of tools have no language; a completion of nothing else ("12") counts as in it. Pieces too short to
    tell languages apart count where their letters are the language's or a … z.
    """
    identifier, alphabet = _identifier(language)
    text = unicodedata.normalize("NFC", _CODE.sub(" ", _sample(completion)))
    inside = total = 0
    for start in range(0, len(text), PIECE):
        piece = text[start : start + PIECE]
        letters = [x for x in piece.lower() if x.isalpha()]
        if len(letters) < FEWEST_LETTERS:
            inside += sum(x in alphabet for x in letters)
        elif identifier.classify(piece)[0] == language:
            inside += len(letters)
        total += len(letters)
    return inside / total if total else 1.0


def _sample(text: str) -> str:
    """The text, or of a long one PIECES pieces from its beginning to its end."""
    if len(text) <= PIECE * PIECES:
        return text
    step = (len(text) - PIECE) / (PIECES - 1)
    return "\n".join(text[int(i * step) : int(i * step) + PIECE] for i in range(PIECES))


@cache
def _identifier(language: str):
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_pickled_model(MODEL_FILE)
    identifier.set_languages(sorted({language, *OTHERS}))
    return identifier, set(languages.load(language).alphabet) | set("abcdefghijklmnopqrstuvwxyz")
