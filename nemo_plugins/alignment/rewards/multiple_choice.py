"""The option that was chosen."""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from nemo_plugins.alignment.rewards import english, thinking
from nemo_plugins.configs import language as languages

LONGEST = 100_000  # characters, the last ones: the choice comes at the end
NEAR = 300  # characters before and after a choice at most, where no full stop ends a sentence

# An option's letter in a phrase. A small a is a word of Polish and English, too: only where nothing but a choice can go on.
LETTER = r"\(?([A-H]|[b-h]|a(?=\s{0,3}(?:[).,;:!\n]|$)))(?![\w=<>+^°%])(?!\s[=<>+])"

_QUOTED = re.compile(r"""(?<!\w)[„“”"'«»‚‘’\[(]{1,2}([A-Ha-h])[)\].]{0,2}[„“”"'«»‚‘’\])]{1,2}(?!\w)|(?<![\w(])([a-h])\)""")
_MATHS = re.compile(r"\\text\w{0,2}\{\s?([A-Ha-h])\s?[).]?\s?\}|\$\s?([A-Ha-h])\s?\$")
_LETTER = re.compile(r"(?<!\w)[A-H](?!\w)")
_BARE = re.compile(r"[^\w?]{0,4}([A-Ha-h])[^\w?]{0,4}")  # nothing but the letter
_OPENING = re.compile(r"\W{0,4}([A-H])(?:\s?[).:]|\s[–—-]\s)")  # "B) Warszawa", "B – Warszawa"
_MARKER = re.compile(r"(?<!\w)[A-H]\)|^[^\w\n]{0,4}[A-H](?:\s?[.:]|\s[–—-]\s)", re.MULTILINE)
_CLOSING = re.compile(r"\(([A-H])\)\W{0,3}$")  # "Stolicą jest Warszawa (B)."
_BOX = re.compile(r"\\boxed\s{0,3}\{\s{0,3}\(?([A-Ha-h])(?:\)?\.?\s{0,3}\}|[).:]\s{1,3}[^{}]{1,200}\})")
_ANOTHER = re.compile(r"\)?\s{0,2}[,;/&+|–-]?\s{0,2}(?:\w{1,5}\s{1,2})?(?<!\w)\(?([A-Hb-h])(?!\w)")  # "B/C", "B C", "B lub C"
_SENTENCE = re.compile(r"[.!?\n]++\s*+")
_BEHIND = re.compile(r"\)?[\s,–-]{0,3}")  # a letter, before a denial
_MARKDOWN = str.maketrans("", "", "*_`#")


@dataclass(frozen=True)
class Words:
    """How a language chooses, as regular expressions."""

    phrases: tuple[re.Pattern, ...]
    mentions: tuple[re.Pattern, ...]
    hedges: tuple[re.Pattern, ...]
    denials: tuple[re.Pattern, ...]
    denials_before: tuple[re.Pattern, ...]

    def __add__(self, other: Words) -> Words:
        return Words(*(getattr(self, name) + getattr(other, name) for name in vars(self)))


def multiple_choice(prompt: str, completion: str, reference: str, *, language: str = "pl") -> float:
    r"""1.0 where the completion chooses the reference's letter, one of A … H, and no other; else 0.0.

    A choice is one of the language's `answer_phrases`, a letter in a `\boxed{}`, a letter alone or alone in the last line;
    where none is, the one option of its `mentions`, at the beginning ("B) Warszawa") or at the end ("… Warszawa (B)."). Small
    letters, quotation marks and brackets choose alike, and so do English phrases where the prompt is English. What is thought
    between <think> and </think> is not read.

    Two letters are no choice, be it a list, a change of mind or a reading of all options; so is a choice with one of the
    language's `hedges` in its sentence or the one before, or with another letter in the one after. A letter with one of its
    `denials` behind or `denials_before` ("odpowiedź B jest błędna", "wykluczam odpowiedź B") is not chosen.

    Raises:
        ValueError: the reference is no such letter.
    """
    wanted = reference.strip().upper()
    if not re.fullmatch("[A-H]", wanted):
        raise ValueError(f"the reference of multiple_choice must be a letter from A to H, got {reference[:100]!r}")
    return 1.0 if chosen(completion, language, english.reads(prompt)) == wanted else 0.0


def chosen(completion: str, language: str = "pl", in_english: bool = False) -> str | None:
    """The one letter that the completion chooses, or None."""
    words = words_of(language) + _english() if in_english else words_of(language)
    text = unicodedata.normalize("NFC", thinking.answer(completion[-LONGEST:])).translate(_MARKDOWN)
    text = "\n".join(" ".join(parts) for line in text.splitlines() if (parts := line.split()))
    text = _MATHS.sub(lambda choices: choices[1] or choices[2], text)
    text = _QUOTED.sub(lambda choices: f"({choices[1].upper()})" if choices[1] else f"{choices[2].upper()})", text)
    bare = _BARE.fullmatch(text)
    if bare:
        return bare[1].upper()
    denied: set[str] = set()
    choices = [*_choices(text, (_BOX, *words.phrases), words, denied), *_last_line(text)]
    choices = choices or list(_choices(text, words.mentions, words, denied))
    if not choices and len(_MARKER.findall(text)) == 1:
        places = [place for place in (_OPENING.match(text), _CLOSING.search(text, max(0, len(text) - NEAR))) if place]
        choices = [place for place in places[:1] if place[1] not in denied and not _denied(place, words)]
    letters = {choice[1].upper() for choice in choices}
    if len(letters) != 1:
        return None
    cuts = [0, *(end.end() for end in _SENTENCE.finditer(text)), len(text), len(text)]
    hedges = [hedge for hedge in words.hedges if hedge.search(text)]
    return None if any(_hedged(cuts, choice, words, hedges) for choice in choices) else letters.pop()


def _choices(text: str, patterns: tuple[re.Pattern, ...], words: Words, denied: set[str]) -> Iterator[re.Match]:
    """What chooses; letters that are said not to be chosen are added to `denied`."""
    for pattern in patterns:
        for choice in pattern.finditer(text):
            if _denied(choice, words):
                denied.add(choice[1].upper())
            else:
                yield choice


def _denied(choice: re.Match, words: Words) -> bool:
    text = choice.string
    after = _BEHIND.match(text, choice.end(1))
    behind = after.end() if after else choice.end(1)
    before = text[max(0, choice.start() - 40) : choice.start()]
    return any(denial.match(text, behind) for denial in words.denials) or any(x.search(before) for x in words.denials_before)


def _last_line(text: str) -> list[re.Match]:
    """The letter that the last of several lines is; none where the line before is one, too: a list."""
    lines = text.rsplit("\n", 2)[-2:]
    if len(lines) < 2 or _BARE.fullmatch(lines[0]):
        return []
    match = _BARE.fullmatch(text, len(text) - len(lines[1]))
    return [match] if match else []


def _hedged(cuts: list[int], choice: re.Match, words: Words, hedges: list[re.Pattern]) -> bool:
    """Whether the choice is taken back or shared where it is made; `cuts` are where sentences begin, and the end, twice."""
    text, at, letter = choice.string, choice.start(1), choice[1].upper()
    if re.compile(r"\)?\s?\?").match(text, choice.end(1)):
        return True
    another = _ANOTHER.match(text, choice.end(1))
    if another and another[1].upper() != letter and not _denied(another, words):
        return True
    own = min(bisect.bisect_right(cuts, at), len(cuts) - 2)
    here = text[max(cuts[max(0, own - 2)], at - NEAR) : min(cuts[own], at + NEAR)]
    after = text[cuts[own] : min(cuts[own + 1], cuts[own] + NEAR)]
    if any(hedge.search(here) for hedge in hedges):
        return True
    return any(hedge.search(after) for hedge in hedges) and any(x != letter for x in _LETTER.findall(after))


@cache
def words_of(language: str) -> Words:
    found = languages.load(language)
    return _compiled(
        found.answer_words,
        [found.answer_phrases, found.mentions, found.hedges, found.denials, found.denials_before],
    )


@cache
def _english() -> Words:
    return _compiled(
        english.WORDS, [english.PHRASES, english.MENTIONS, english.HEDGES, english.DENIALS, english.DENIALS_BEFORE]
    )


def _compiled(pieces: dict[str, str], groups: list[list[str]]) -> Words:
    """The expressions with `{letter}` and each of the language's `{pieces}` put in."""

    def one(pattern: str) -> re.Pattern:
        for name, piece in (*pieces.items(), ("letter", LETTER)):
            pattern = pattern.replace(f"{{{name}}}", piece)
        return re.compile(pattern, re.MULTILINE)

    return Words(*(tuple(one(x) for x in group) for group in groups))
