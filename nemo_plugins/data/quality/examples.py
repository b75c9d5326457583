"""Examples to learn quality from: good text as it is, and what is made of it or in its place.

HIGH is text that is known to be good: whole documents and passages. LOW and MEDIUM are made, by the functions below, each of
which is a kind of bad page; `LOW` and `MEDIUM` list them. A seed makes the same examples everywhere.
"""

from __future__ import annotations

import base64
import json
import random
import string
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nemo_plugins.configs.schema import LanguageConfig

SHORTEST = 200  # characters of a passage
PASSAGES = 2  # of each document: the document, and one cut from it
LOW_SHARE, MEDIUM_SHARE = 1.0, 0.75  # examples for one that is HIGH
WITHOUT_MARKS = str.maketrans("łŁđĐøØ", "lLdDoO")


@dataclass(frozen=True)
class Example:
    """A text, its class (0 LOW, 1 MEDIUM, 2 HIGH), how it was made, and the number of the document behind it."""

    text: str
    label: int
    kind: str
    document: int


@dataclass(frozen=True)
class Material:
    """What bad pages are made of."""

    language: LanguageConfig
    good: Sequence[str]
    foreign: Sequence[str]  # texts in other languages; beside them English ones from Python's own documentation
    languages: Sequence[LanguageConfig]  # others, whose stop words make text that looks like theirs


def make(material: Material, numbers: Sequence[int], seed: int) -> list[Example]:
    """Examples of all classes from the good documents with these numbers, which no other call should share.

    Args:
        numbers: of `material.good`; LOW and MEDIUM are made of these documents too.
    """
    rng = random.Random(f"examples {seed}")
    examples = []
    for number in numbers:
        text = material.good[number]
        examples.append(Example(text, 2, "whole", number))
        examples += [Example(passage(text, rng), 2, "passage", number) for _ in range(PASSAGES - 1)]
    for kinds, label, share in ((LOW, 0, LOW_SHARE), (MEDIUM, 1, MEDIUM_SHARE)):
        names = list(kinds)
        for place in range(round(len(numbers) * PASSAGES * share)):
            name, number = names[place % len(names)], numbers[place % len(numbers)]
            examples.append(Example(kinds[name](material, material.good[number], rng), label, name, number))
    return [one for one in examples if one.text.strip()]


def passage(text: str, rng: random.Random) -> str:
    """Some lines in a row, at least `SHORTEST` characters where there are so many; sometimes as one paragraph."""
    lines = text.split("\n")
    start = rng.randrange(len(lines))
    end = min(len(lines), start + rng.randint(1, 15))
    while len("\n".join(lines[start:end])) < SHORTEST and (start > 0 or end < len(lines)):
        start, end = max(0, start - 1), min(len(lines), end + 1)
    return rng.choice(("\n", "\n", "\n\n", " ")).join(lines[start:end])


def boilerplate(material: Material, text: str, rng: random.Random) -> str:
    """Menus, cookie notices and footers, some with the title of a page among them."""
    phrases = material.language.boilerplate or material.language.stop_words
    chosen = [rng.choice(phrases) for _ in range(rng.randint(8, 60))]
    for _ in range(rng.randint(0, 6)):
        chosen.insert(rng.randrange(len(chosen)), " ".join(text.split()[: rng.randint(2, 8)]))
    for _ in range(rng.randint(0, 8)):
        date, price = f"{rng.randint(1, 28)}.{rng.randint(1, 12)}.2023", f"{rng.randint(1, 999)},99 zł"
        extra = rng.choice((date, price, f"({rng.randint(0, 99)})", "1 2 3 4 … 17", "© 2023"))
        chosen.insert(rng.randrange(len(chosen)), extra)
    return rng.choice(("\n", "\n", " | ", " » ", " ", "\n\n")).join(chosen)


def noise(material: Material, text: str, rng: random.Random) -> str:
    """What machines write for machines: logs, tables of numbers, code, encoded bytes."""
    size, kind = rng.randint(5, 60), rng.randrange(7)
    if kind == 0:
        return "\n".join(_log_line(rng) for _ in range(size))
    if kind == 1:
        mark = rng.choice((",", ";", "\t", " | "))
        return "\n".join(mark.join(f"{rng.uniform(0, 1000):.2f}" for _ in range(8)) for _ in range(size))
    if kind == 2:
        packed = base64.b64encode(rng.randbytes(size * 40)).decode()
        return "\n".join(packed[at : at + 76] for at in range(0, len(packed), 76))
    if kind == 3:
        return json.dumps(
            [{_name(rng): rng.randint(0, 99), _name(rng): _name(rng)} for _ in range(size)], indent=rng.choice((None, 2))
        )
    if kind == 4:
        return "\n".join(
            f"{'    ' * rng.randint(0, 3)}{rng.choice(('if', 'for', 'return', 'var', 'function', 'def'))} "
            f"{_name(rng)}({_name(rng)}, {rng.randint(0, 9)}) {rng.choice(('{', ';', '== null;', '=> {', '+= 1;', '}'))}"
            for _ in range(size)
        )
    if kind == 5:
        return "\n".join(
            f'<div class="{_name(rng)}"><a href="/{_name(rng)}/{rng.randint(1, 99)}">{_word(text, rng)}</a></div>'
            for _ in range(size)
        )
    return " ".join(rng.randbytes(8).hex() for _ in range(size * 3))


def shuffled(material: Material, text: str, rng: random.Random) -> str:
    """Good words in no order, or good letters in none."""
    lines = passage(text, rng).split("\n")
    how = rng.randrange(4)
    if how == 0:  # words of the whole text
        words = " ".join(lines).split()
        rng.shuffle(words)
        return " ".join(words)
    if how == 1:  # words of each line, which stays as long as it was
        return "\n".join(" ".join(rng.sample(line.split(), len(line.split()))) for line in lines)
    if how == 2:  # letters of each word
        return "\n".join(" ".join("".join(rng.sample(word, len(word))) for word in line.split()) for line in lines)
    return "\n".join(" ".join(sorted(line.split(), key=str.lower)) for line in lines)


def foreign(material: Material, text: str, rng: random.Random) -> str:
    """Another language: given text, English from Python's documentation, or the stop words of a language with words between."""
    kind = rng.randrange(3)
    if kind == 0 and material.foreign:
        return passage(rng.choice(material.foreign), rng)
    if kind <= 1 or not material.languages:
        return passage(rng.choice(_english()), rng)
    other = rng.choice(material.languages)
    sentences = []
    for _ in range(rng.randint(3, 25)):
        made = [
            rng.choice(other.stop_words) if rng.random() < 0.45
            else "".join(rng.choice(other.alphabet) for _ in range(rng.randint(4, 10)))
            for _ in range(rng.randint(4, 18))
        ]  # fmt: skip
        sentences.append(" ".join(made).capitalize() + rng.choice((".", ".", ".", "?", ",")))
    return rng.choice((" ", "\n")).join(sentences)


def spam(material: Material, text: str, rng: random.Random) -> str:
    """A few words again and again, with the words that sell."""
    sold = material.language.spam or material.language.stop_words
    words = [_word(text, rng).lower() for _ in range(rng.randint(1, 6))]
    phrases = [
        " ".join(rng.sample([rng.choice(words), rng.choice(sold), *([rng.choice(sold)] if rng.random() < 0.5 else [])], 2))
        for _ in range(rng.randint(20, 120))
    ]
    return rng.choice((", ", ", ", " ", "\n", " | ")).join(phrases)


def misread(material: Material, text: str, rng: random.Random) -> str:
    """A scan read badly: a fifth to a half of the letters are others."""
    return _misread(passage(text, rng), rng, rng.uniform(0.2, 0.5))


def repeated(material: Material, text: str, rng: random.Random) -> str:
    """One line many times."""
    line = max(rng.sample(text.split("\n"), min(3, text.count("\n") + 1)), key=len)
    return "\n".join([line] * rng.randint(5, 40))


def amid_boilerplate(material: Material, text: str, rng: random.Random) -> str:
    """Good text with the page around it: a quarter to two thirds of the lines are not the author's."""
    lines = passage(text, rng).replace(". ", ".\n").split("\n")
    around = boilerplate(material, text, rng).replace(" | ", "\n").replace(" » ", "\n").split("\n")
    count = max(2, round(len(lines) * rng.uniform(0.4, 2)))
    extra = [rng.choice(around) for _ in range(count)]
    place = rng.randrange(len(extra))
    return "\n".join([*extra[:place], *lines, *extra[place:]])


def without_marks(material: Material, text: str, rng: random.Random) -> str:
    """Typed without the language's own letters."""
    plain = unicodedata.normalize("NFD", passage(text, rng).translate(WITHOUT_MARKS))
    return "".join(character for character in plain if not unicodedata.combining(character))


def careless(material: Material, text: str, rng: random.Random) -> str:
    """In lower case, with little or no punctuation."""
    kept = rng.choice(("", ",", ".,"))
    dropped = str.maketrans("", "", "".join(mark for mark in string.punctuation + "„”–…" if mark not in kept))
    return passage(text, rng).lower().translate(dropped)


def cut(material: Material, text: str, rng: random.Random) -> str:
    """Beginnings of texts, as lists of articles have them."""
    lines = [line for line in text.split("\n") if len(line) > 40] or [text]
    return "\n".join(
        f"{line[: rng.randint(25, 90)].rsplit(' ', 1)[0]}{rng.choice(('…', '...', ' [...]', ''))}"
        for line in rng.choices(lines, k=rng.randint(3, 15))
    )


def misread_a_little(material: Material, text: str, rng: random.Random) -> str:
    """A scan read with a wrong letter in every fourth word or so."""
    return _misread(passage(text, rng), rng, rng.uniform(0.02, 0.08))


def said_twice(material: Material, text: str, rng: random.Random) -> str:
    """A passage two to four times, as pages with a summary and a printed version have it."""
    return "\n".join([passage(text, rng)] * rng.randint(2, 4))


Maker = Callable[[Material, str, random.Random], str]
LOW: dict[str, Maker] = {
    "boilerplate": boilerplate, "noise": noise, "shuffled": shuffled, "foreign": foreign, "spam": spam, "misread": misread,
    "repeated": repeated,
}  # fmt: skip
MEDIUM: dict[str, Maker] = {
    "amid_boilerplate": amid_boilerplate, "without_marks": without_marks, "careless": careless, "cut": cut,
    "misread_a_little": misread_a_little, "said_twice": said_twice,
}  # fmt: skip


def _english() -> list[str]:
    from pydoc_data.topics import topics

    return [text for _, text in sorted(topics.items())]


def _misread(text: str, rng: random.Random, share: float) -> str:
    strange = "lI1|0O5S8B6ćż.,;:'`~^-_«»" + string.ascii_letters
    return "".join(rng.choice(strange) if letter.isalpha() and rng.random() < share else letter for letter in text)


def _log_line(rng: random.Random) -> str:
    day, time = (rng.randint(1, 12), rng.randint(1, 28)), (rng.randint(0, 23), rng.randint(0, 59), rng.randint(0, 59))
    level = rng.choice(("INFO", "WARN", "ERROR", "DEBUG"))
    stamp = f"2023-{day[0]:02}-{day[1]:02} {time[0]:02}:{time[1]:02}:{time[2]:02}"
    return f"{stamp} {level} [{_name(rng)}] {_name(rng)}={rng.randint(0, 9999)} {_name(rng)} ok"


def _name(rng: random.Random) -> str:
    return "".join(rng.choice(string.ascii_lowercase + "_") for _ in range(rng.randint(3, 10)))


def _word(text: str, rng: random.Random) -> str:
    """A longer word of a text."""
    words = [
        word for word in (word.strip(string.punctuation + "„”") for word in text.split()) if len(word) > 4 and word.isalpha()
    ]
    return rng.choice(words) if words else "słowo"
