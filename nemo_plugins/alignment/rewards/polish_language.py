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

FEWEST_WORDS = 4  # of two letters or more: below, code and formulas are no prose

_MARKED = re.compile(r"```|<tool_call>|`[^`\n]{0,200}`|\$[^$\n]{0,300}\$|\\[A-Za-z]++")
_ENDS = {"```": "```", "<tool_call>": "</tool_call>"}
_COMMAND, _WORD = re.compile(r"\\[A-Za-z]++"), re.compile(r"[^\W\d_]{2,}+")


def polish_language(prompt: str, completion: str, reference: str, *, language: str = "pl") -> float:
    """The share of letters in pieces of the completion that are in the language, 0.0 … 1.0.

    Code, formulas and calls of tools have no language; a completion of nothing else ("12") counts as in it, unless what is
    marked as code or formula reads as prose: then that is what counts. Pieces too short to tell languages apart count where
    their letters are the language's or a … z.
    """
    prose, marked = (_sample(text) for text in _parted(completion))
    share = _share(prose, language)
    if share is None and len(_WORD.findall(marked)) >= FEWEST_WORDS:
        share = _share(marked, language)
    return 1.0 if share is None else share


def _share(text: str, language: str) -> float | None:
    """None where there are no letters."""
    identifier, alphabet = _identifier(language)
    text = unicodedata.normalize("NFC", text)
    inside = total = 0
    for start in range(0, len(text), PIECE):
        piece = text[start : start + PIECE]
        letters = [x for x in piece.lower() if x.isalpha()]
        if len(letters) < FEWEST_LETTERS:
            inside += sum(x in alphabet for x in letters)
        elif identifier.classify(piece)[0] == language:
            inside += len(letters)
        total += len(letters)
    return inside / total if total else None


def _parted(text: str) -> tuple[str, str]:
    """What is outside of code, formulas and calls, and what is marked as code or formula; what is not closed hides nothing."""
    prose, marked, at = [], [], 0
    last = {begin: text.rfind(end) for begin, end in _ENDS.items()}  # one look from the end: no second pass for each beginning
    while match := _MARKED.search(text, at):
        prose.append(text[at : match.start()])
        begin, at = match[0], match.end()
        if begin not in _ENDS:
            marked.append(begin)
        elif at <= last[begin]:
            stop = text.index(_ENDS[begin], at)
            marked += [text[at:stop]] if begin == "```" else []
            at = stop + len(_ENDS[begin])
    prose.append(text[at:])
    return " ".join(prose), _COMMAND.sub(" ", " ".join(marked))


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
