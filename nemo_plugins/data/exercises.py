"""Simple Polish exercises with one right answer, endless and seeded: what a tiny model can learn and be measured on.

What is held out, so that a score on "heldout" is not memory:

- arithmetic: the fact, decided by a hash. 17 + 25, 25 + 17, 42 - 17 and 42 - 25 are one fact, as are 6 * 7 and 42 : 7;
  it is the same one in digits and in words. 10 % of facts are only ever in "heldout".
- numbers in words: the number, likewise 10 %. Agreement: the sentence with its word, likewise 10 %.
- capitals and synonyms: a fact never seen cannot be guessed, so every one is in "train" and "heldout" asks it in other words.

Synonyms come from assets/polish_text/synonyms.tsv (LGPL-2.1, its README says whose); the rest is our own.
"""

import random
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from nemo_plugins.data.agreement import Gap, gaps
from nemo_plugins.data.capitals import COUNTRIES, PLURAL_CAPITALS
from nemo_plugins.data.number_words import LARGEST, to_words

SYNONYMS = Path(__file__).resolve().parents[2] / "assets" / "polish_text" / "synonyms.tsv"
SPLITS = ("train", "heldout")
HELDOUT_PERCENT = 10

ARITHMETIC = (
    "Ile to jest {}?",
    "Oblicz: {}.",
    "Podaj wynik działania {}.",
    "Ile wynosi {}?",
    "Jaki jest wynik działania {}?",
)
SIGNS = {"+": "+", "-": "-", "*": "*·", "/": ":/"}  # one of each, as Poles type and write them
SIGN_WORDS = {
    "+": ("dodać", "plus"),
    "-": ("odjąć", "minus"),
    "*": ("razy", "pomnożyć przez"),
    "/": ("podzielić przez", "podzielone przez"),
}
TO_WORDS = ("Zapisz słownie liczbę {}.", "Jak zapisać słowami liczbę {}?", "Zapisz liczbę {} słowami.")
FROM_WORDS = ("Zapisz cyframi: {}.", "Jaka to liczba: {}?", "Zapisz cyframi liczbę {}.")
AGREEMENT = (
    "Wstaw właściwą formę słowa „{}”: {}",
    "Uzupełnij zdanie słowem „{}” we właściwej formie: {}",
    "Jaka forma słowa „{}” pasuje do zdania: {}",
)
SYNONYM = {
    "train": ("Podaj synonim słowa „{}”.", "Jakie słowo znaczy to samo co „{}”?", "Jak inaczej powiedzieć „{}”?"),
    "heldout": ("Które słowo znaczy to samo co „{}”?", "Jakim słowem można zastąpić „{}”?"),
}
CAPITAL = {
    "train": ("Jaka jest stolica {}?", "Podaj stolicę {}.", "Jakie miasto jest stolicą {}?"),
    "heldout": ("Które miasto jest stolicą {}?", "Jak nazywa się stolica {}?"),
}
COUNTRY = {
    "train": ("Stolicą jakiego państwa {} {}?", "Podaj nazwę państwa, którego stolicą {} {}."),
    "heldout": ("Stolicą którego kraju {} {}?", "Jak nazywa się państwo, którego stolicą {} {}?"),
}


@dataclass(frozen=True)
class Exercise:
    kind: str
    question: str
    answer: str


def exercises(split: str, count: int, seed: int) -> list[Exercise]:
    """`count` exercises, of kinds as often as MAKERS has them; the same arguments give the same list on every machine.

    A question comes twice in a list only when its kind is nearly exhausted.
    Raises: ValueError for a split that is neither "train" nor "heldout".
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    rng = random.Random(f"{split} {seed}")
    drawn: list[Exercise] = []
    asked: set[str] = set()
    for _ in range(count):
        make = rng.choice(MAKERS)
        exercise = make(rng, split)
        for _ in range(20):
            if exercise.question not in asked:
                break
            exercise = make(rng, split)
        asked.add(exercise.question)
        drawn.append(exercise)
    return drawn


def chatml(exercise: Exercise) -> str:
    """One turn each of user and assistant, as Bielik's chat template writes them, without the leading <s>."""
    return f"<|im_start|>user\n{exercise.question}<|im_end|>\n<|im_start|>assistant\n{exercise.answer}<|im_end|>\n"


def split_of(fact: str) -> str:
    """The split that alone may hold the fact."""
    return "heldout" if int(sha256(fact.encode()).hexdigest(), 16) % 100 < HELDOUT_PERCENT else "train"


def arithmetic_fact(left: int, sign: str, right: int) -> str:
    """One name for a sum or product and all its rearrangements: 42 - 17 and 25 + 17 are "17 + 25"."""
    if sign == "-":
        left -= right
    elif sign == "/":
        left //= right
    return f"{min(left, right)} {'+' if sign in '+-' else '*'} {max(left, right)}"


def _calculation(rng: random.Random, split: str) -> tuple[int, str, int, int]:
    """(left, sign, right, result): sums of 0 … 99 and back, products of 0 … 12, exact quotients."""
    while True:
        sign = rng.choice("+-*/")
        largest = 99 if sign in "+-" else 12
        a, b = rng.randint(0, largest), rng.randint(1 if sign == "/" else 0, largest)
        result = {"+": a + b, "-": a, "*": a * b, "/": a}[sign]
        left = {"-": a + b, "/": a * b}.get(sign, a)
        if split_of(arithmetic_fact(left, sign, b)) == split:
            return left, sign, b, result


def _arithmetic(rng: random.Random, split: str) -> Exercise:
    left, sign, right, result = _calculation(rng, split)
    question = rng.choice(ARITHMETIC).format(f"{left} {rng.choice(SIGNS[sign])} {right}")
    return Exercise("arithmetic", question, str(result))


def _arithmetic_words(rng: random.Random, split: str) -> Exercise:
    left, sign, right, result = _calculation(rng, split)
    task = f"{to_words(left)} {rng.choice(SIGN_WORDS[sign])} {to_words(right)}"
    return Exercise("arithmetic_words", rng.choice(ARITHMETIC[:2]).format(task), to_words(result))


def _number(rng: random.Random, split: str) -> int:
    """Every length equally likely, or nearly all numbers would have four digits."""
    while True:
        number = rng.randint(0, rng.choice((20, 99, 999, LARGEST)))
        if split_of(f"number {number}") == split:
            return number


def _number_to_words(rng: random.Random, split: str) -> Exercise:
    number = _number(rng, split)
    return Exercise("number_to_words", rng.choice(TO_WORDS).format(number), to_words(number))


def _words_to_number(rng: random.Random, split: str) -> Exercise:
    number = _number(rng, split)
    return Exercise("words_to_number", rng.choice(FROM_WORDS).format(to_words(number)), str(number))


def _capital(rng: random.Random, split: str) -> Exercise:
    country = rng.choice(COUNTRIES)
    return Exercise("capital", rng.choice(CAPITAL[split]).format(country.genitive), country.capital)


def _country(rng: random.Random, split: str) -> Exercise:
    country = rng.choice(COUNTRIES)
    verb = "są" if country.capital in PLURAL_CAPITALS else "jest"
    return Exercise("country", rng.choice(COUNTRY[split]).format(verb, country.capital), country.nominative)


@cache
def synonym_pairs() -> tuple[tuple[str, str], ...]:
    """The pairs of synonyms.tsv; a word is in one pair only, so that a question has one answer."""
    lines = SYNONYMS.read_text(encoding="utf-8").splitlines()
    return tuple((first, second) for first, second in (line.split("\t") for line in lines))


def _synonym(rng: random.Random, split: str) -> Exercise:
    pair = rng.choice(synonym_pairs())
    word, other = pair if rng.random() < 0.5 else pair[::-1]
    return Exercise("synonym", rng.choice(SYNONYM[split]).format(word), other)


@cache
def gaps_of(split: str) -> dict[str, tuple[Gap, ...]]:
    """The sentences with a gap that the split alone may hold, by the kind of agreement."""
    return {
        kind: tuple(gap for gap in found if split_of(f"agreement {gap.word} {gap.sentence}") == split)
        for kind, found in gaps().items()
    }


def _agreement(rng: random.Random, split: str) -> Exercise:
    gap = rng.choice(gaps_of(split)[rng.choice(tuple(gaps()))])
    return Exercise("agreement", rng.choice(AGREEMENT).format(gap.word, gap.sentence), gap.right)


# Twice as often what takes longest to learn.
MAKERS = (
    *(_arithmetic, _arithmetic_words, _synonym, _agreement) * 2,
    *(_number_to_words, _words_to_number, _capital, _country),
)
