"""The option that was chosen."""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Iterator
from functools import cache

from nemo_plugins.configs import language as languages

LONGEST = 100_000  # characters, the last ones: the choice comes at the end
NEAR = 300  # characters before and after a choice at most, where no full stop ends a sentence

_LETTER = re.compile(r"(?<!\w)[A-H](?!\w)")
_BARE = re.compile(r"[^\w?]{0,4}([A-Ha-h])[^\w?]{0,4}")  # nothing but the letter
_OPENING = re.compile(r"\W{0,4}([A-H])\s?[).:]")  # "B) Warszawa"
_MARKER = re.compile(r"(?<!\w)[A-H]\)|^[^\w\n]{0,4}[A-H]\s?[.:]", re.MULTILINE)
_BOX = re.compile(r"\\boxed\s{0,3}\{\s{0,3}(?:\\text\w{0,2}\{)?\(?([A-H])\)?\s{0,3}\}")
_ANOTHER = re.compile(r"\)?\s{0,2}[,;/&+|–-]?\s{0,2}(?:\w{1,5}\s{1,2})?(?<!\w)\(?([A-H])(?!\w)")  # "B/C", "B C", "B lub C"
_SENTENCE = re.compile(r"[.!?\n]++\s*+")
_MARKDOWN = str.maketrans("", "", "*_`")


def multiple_choice(prompt: str, completion: str, reference: str, *, language: str = "pl") -> float:
    r"""1.0 where the completion chooses the reference's letter, one of A … H, and no other; else 0.0.

    A choice is one of the language's `answer_phrases`, a letter in a `\boxed{}`, a letter alone, or one option at the
    beginning ("B) Warszawa"). Two letters are none, be it a list, a change of mind or a reading of all options; so is a choice
    with one of the language's `hedges` in its sentence or the one before, or with another letter in the one after. A letter
    with one of its `denials` behind it ("odpowiedź B jest błędna") is not chosen.

    Raises:
        ValueError: the reference is no such letter.
    """
    wanted = reference.strip().upper()
    if not re.fullmatch("[A-H]", wanted):
        raise ValueError(f"the reference of multiple_choice must be a letter from A to H, got {reference[:100]!r}")
    return 1.0 if chosen(completion, language) == wanted else 0.0


def chosen(completion: str, language: str = "pl") -> str | None:
    """The one letter that the completion chooses, or None."""
    text = unicodedata.normalize("NFC", completion[-LONGEST:]).translate(_MARKDOWN)
    text = "\n".join(" ".join(words) for line in text.splitlines() if (words := line.split()))
    bare = _BARE.fullmatch(text)
    if bare:
        return bare[1].upper()
    found = list(_choices(text, language))
    if not found:
        opening = _OPENING.match(text)
        found = [opening] if opening and len(_MARKER.findall(text)) == 1 else []
    letters = {choice[1] for choice in found}
    if len(letters) != 1:
        return None
    cuts = [0, *(end.end() for end in _SENTENCE.finditer(text)), len(text), len(text)]
    return None if any(_hedged(text, cuts, choice, language) for choice in found) else letters.pop()


def _choices(text: str, language: str) -> Iterator[re.Match]:
    phrases, _, denials = _expressions(language)
    for phrase in (_BOX, *phrases):
        for choice in phrase.finditer(text):
            behind = re.compile(r"\)?[\s,–-]{0,3}").match(text, choice.end(1)).end()
            if not any(denial.match(text, behind) for denial in denials):
                yield choice


def _hedged(text: str, cuts: list[int], choice: re.Match, language: str) -> bool:
    """Whether the choice is taken back or shared where it is made; `cuts` are where sentences begin, and the end, twice."""
    hedges, at = _expressions(language)[1], choice.start(1)
    another = _ANOTHER.match(text, choice.end(1))
    if another and another[1] != choice[1]:
        return True
    own = min(bisect.bisect_right(cuts, at), len(cuts) - 2)
    here = text[max(cuts[max(0, own - 2)], at - NEAR) : min(cuts[own], at + NEAR)]
    after = text[cuts[own] : min(cuts[own + 1], cuts[own] + NEAR)]
    if any(hedge.search(here) for hedge in hedges):
        return True
    return any(hedge.search(after) for hedge in hedges) and any(x != choice[1] for x in _LETTER.findall(after))


@cache
def _expressions(language: str) -> tuple[list[re.Pattern], list[re.Pattern], list[re.Pattern]]:
    found = languages.load(language)
    return tuple([re.compile(x) for x in group] for group in (found.answer_phrases, found.hedges, found.denials))
