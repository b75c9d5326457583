"""The items of each probe: a question, four options, the place of the right one, and what a free answer should be."""

import random
from collections.abc import Iterator

from regions import REGION

from nemo_plugins.data.capitals import COUNTRIES, PLURAL_CAPITALS
from nemo_plugins.data.exercises import AGREEMENT, CAPITAL, COUNTRY, SYNONYM, Exercise, exercises, gaps_of, synonym_pairs
from nemo_plugins.data.number_words import from_words, to_words

OPTIONS = 4

Item = dict


def item(question: str, right: str, wrong: list[str], place: int) -> Item:
    """One item with the right option at `place`; the free answer is its text.

    Raises: ValueError where the options are not four different ones.
    """
    options = [*wrong[:place], right, *wrong[place:]]
    if len(set(options)) != OPTIONS:
        raise ValueError(f"{question}: expected {OPTIONS} different options, got {options}")
    return {"question": question, "options": options, "answer": place, "target": right}


def places(count: int, chance: random.Random) -> Iterator[int]:
    """Where the right options stand: each place equally often."""
    found = [number % OPTIONS for number in range(count)]
    chance.shuffle(found)
    return iter(found)


def capitals(chance: random.Random, count: int = 120) -> list[Item]:
    """Capital of a country and country of a capital, asked as no training exercise does; wrong answers from the same region."""
    tells = [one for one in COUNTRIES if one.nominative[:4] != one.capital[:4]]  # „Tunis” would give Tunisia away
    chosen, found = chance.sample(tells, count), []
    for number, (one, place) in enumerate(zip(chosen, places(count, chance), strict=True)):
        near = [other for other in tells if other != one and REGION[other.nominative] == REGION[one.nominative]]
        near = chance.sample(near, OPTIONS - 1)
        if number % 2:
            question = chance.choice(CAPITAL["heldout"]).format(one.genitive)
            found.append(item(question, one.capital, [other.capital for other in near], place))
        else:
            verb = "są" if one.capital in PLURAL_CAPITALS else "jest"
            question = chance.choice(COUNTRY["heldout"]).format(verb, one.capital)
            found.append(item(question, one.nominative, [other.nominative for other in near], place))
    return found


def ending(word: str) -> str:
    """Verbs end in -ć, adjectives in -y or -i; what is left are nouns and adverbs."""
    return "verb" if word.endswith("ć") else "adjective" if word.endswith(("y", "i")) else "other"


def synonyms(chance: random.Random, count: int = 120) -> list[Item]:
    """Pairs asked as no training exercise does; wrong answers are words of other pairs of the same part of speech, as far as
    the ending tells it.
    """
    words = sorted({word for pair in synonym_pairs() for word in pair})
    found = []
    for pair, place in zip(chance.sample(synonym_pairs(), count), places(count, chance), strict=True):
        word, right = pair if chance.random() < 0.5 else pair[::-1]
        alike = [other for other in words if other not in pair and ending(other) == ending(right)]
        close = sorted(alike, key=lambda other: (abs(len(other) - len(right)), other))[:12]
        question = chance.choice(SYNONYM["heldout"]).format(word)
        found.append(item(question, right, chance.sample(close, OPTIONS - 1), place))
    return found


def near_numbers(value: int, chance: random.Random) -> list[int]:
    """Three wrong numbers of the same size: one or ten off, or with two digits changed round."""
    digits = str(value)
    turned = {int(digits[:i] + digits[i + 1] + digits[i] + digits[i + 2 :]) for i in range(len(digits) - 1)}
    near = {value + off for off in (-10, -2, -1, 1, 2, 10)} | turned
    near = sorted(number for number in near if 0 <= number <= 9999 and number != value)
    return chance.sample(near, OPTIONS - 1)


def _of_kind(kinds: tuple[str, ...], count: int) -> list[Exercise]:
    found: dict[str, Exercise] = {}
    for one in exercises("heldout", 40 * count, seed=9):
        if one.kind in kinds:
            found.setdefault(one.question, one)
    each = count // len(kinds)
    return [one for kind in kinds for one in [one for one in found.values() if one.kind == kind][:each]]


def _numbers(kinds: tuple[str, ...], count: int, chance: random.Random) -> list[Item]:
    found = []
    for one, place in zip(_of_kind(kinds, count), places(count, chance), strict=True):
        if one.answer.isdigit():
            wrong = list(map(str, near_numbers(int(one.answer), chance)))
        else:
            wrong = list(map(to_words, near_numbers(from_words(one.answer), chance)))
        found.append(item(one.question, one.answer, wrong, place))
    return found


def number_words(chance: random.Random, count: int = 120) -> list[Item]:
    """Numbers to words and back, of numbers that no training exercise has."""
    return _numbers(("number_to_words", "words_to_number"), count, chance)


def arithmetic(chance: random.Random, count: int = 120) -> list[Item]:
    """Sums, differences, products and quotients in digits and in words, of facts that no training exercise has."""
    return _numbers(("arithmetic", "arithmetic_words"), count, chance)


def agreement(chance: random.Random, each: int = 30) -> list[Item]:
    """Verbs with subjects, adjectives with nouns, nouns with numerals and with what asks for a case: of sentences that no
    training exercise has. Wrong answers are other forms of the same word.
    """
    place, found = places(4 * each, chance), []
    for held_out in gaps_of("heldout").values():
        for gap in chance.sample(held_out, each):
            wrong = chance.sample(sorted({*gap.forms} - {gap.right}), OPTIONS - 1)
            question = chance.choice(AGREEMENT).format(gap.word, gap.sentence)
            found.append(item(question, gap.right, wrong, next(place)))
    return found


MAKERS = {
    "capitals": capitals,
    "synonyms": synonyms,
    "number_words": number_words,
    "arithmetic": arithmetic,
    "agreement": agreement,
}
