"""The items of each probe: a question, four options, the place of the right one, and what a free answer should be."""

import gzip
import json
import random
import re
from collections.abc import Iterator
from itertools import permutations

from agreement import ADJECTIVES, CASES, COUNTED, DECLINED, FEW, FRAMES, MANY, NOUNS, PLACES, SUBJECTS, VERBS
from regions import REGION

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data.capitals import COUNTRIES, PLURAL_CAPITALS
from nemo_plugins.data.exercises import CAPITAL, COUNTRY, Exercise, exercises, split_of, synonym_pairs
from nemo_plugins.data.number_words import from_words, to_words

HELDOUT_TEXT = REPOSITORY / "assets" / "polish_text" / "heldout.jsonl.gz"
OPTIONS = 4
GAP = "…"
ORDER = "Podaj numery zdań we właściwej kolejności, np. 2, 1, 3."

Item = dict


def item(question: str, right: str, wrong: list[str], place: int, target: str | None = None, **more) -> Item:
    """One item with the right option at `place`.

    Raises: ValueError where the options are not four different ones.
    """
    options = [*wrong[:place], right, *wrong[place:]]
    if len(set(options)) != OPTIONS:
        raise ValueError(f"{question}: expected {OPTIONS} different options, got {options}")
    return {"question": question, "options": options, "answer": place, "target": target or right, **more}


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


def synonyms(chance: random.Random) -> list[Item]:
    """The held-out pairs; wrong answers are words of other pairs of the same part of speech, as far as the ending tells it."""
    pairs = [pair for pair in synonym_pairs() if split_of(f"synonym {' '.join(pair)}") == "heldout"]
    words = sorted({word for pair in synonym_pairs() for word in pair})
    found = []
    for pair, place in zip(pairs, places(len(pairs), chance), strict=True):
        word, right = pair if chance.random() < 0.5 else pair[::-1]
        alike = [other for other in words if other not in pair and ending(other) == ending(right)]
        close = sorted(alike, key=lambda other: (abs(len(other) - len(right)), other))[:12]
        found.append(item(f"Które słowo znaczy to samo co „{word}”?", right, chance.sample(close, OPTIONS - 1), place))
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


def _gap(sentence: str, forms: list[str], right: str, word: str, place: int, chance: random.Random) -> Item:
    """Options are whole sentences; the free form asks for the word in the gap."""
    wrong = chance.sample(sorted({form for form in forms if form != right}), OPTIONS - 1)
    question = f"Wstaw właściwą formę słowa „{word}”: {sentence.format(GAP)}"
    filled = [sentence.format(form) for form in wrong]
    return item("Które zdanie jest poprawne?", sentence.format(right), filled, place, target=right, free=question)


def agreement(chance: random.Random, each: int = 30) -> list[Item]:
    """Verbs with subjects, adjectives with nouns, nouns with numerals, cases with what asks for them."""
    place, found = places(4 * each, chance), []
    past = [(kind, subject, verb) for kind, subjects in SUBJECTS.items() for subject in subjects for verb in VERBS]
    for kind, subject, (word, forms, rest) in chance.sample(past, each):
        right = forms[PLACES.index(kind)]
        found.append(_gap(f"{subject} {{}} {rest}.", list(forms), right, word, next(place), chance))
    described = [(forms, noun) for forms in ADJECTIVES for noun in NOUNS]
    for forms, (noun, which, plural) in chance.sample(described, each):
        sentence = f"{'To są' if plural else 'To jest'} {{}} {noun}."
        found.append(_gap(sentence, list(forms), forms[which], forms[0], next(place), chance))
    counted = [(noun, number) for noun in COUNTED for number in ("dwa", *FEW, *MANY)]
    for (one, few, many, with_, feminine), number in chance.sample(counted, each):
        said = "dwie" if number == "dwa" and feminine else number
        right = many if number in MANY else few
        found.append(_gap(f"Na zdjęciu widać {said} {{}}.", [one, few, many, with_], right, one, next(place), chance))
    framed = [(forms, frame) for forms in DECLINED for frame in FRAMES]
    for forms, (sentence, case) in chance.sample(framed, each):
        found.append(_gap(sentence, list(forms), forms[CASES.index(case)], forms[0], next(place), chance))
    return found


SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-ZĄĆĘŁŃÓŚŹŻ])")


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph of whole ones; a rough cut, which is why what is not plain is left out by `runs`."""
    return [part.strip() for part in SENTENCE.split(paragraph)]


def runs() -> Iterator[tuple[str, list[str]]]:
    """Three sentences in a row of held-out text, with the document's id: short, whole, and different."""
    for line in gzip.decompress(HELDOUT_TEXT.read_bytes()).decode().splitlines():
        document = json.loads(line)
        for paragraph in document["text"].split("\n"):
            parts = sentences(paragraph)
            for start in range(0, len(parts) - 2, 3):
                three = parts[start : start + 3]
                whole = all(re.fullmatch(r"[A-ZĄĆĘŁŃÓŚŹŻ][^:;]*[.!?]", one) for one in three)
                if whole and all(4 <= len(one.split()) <= 16 for one in three) and len(set(three)) == 3:
                    yield document["id"], three


def sentence_order(chance: random.Random, count: int = 80) -> list[Item]:
    """Which order three sentences of a held-out text stand in; one run a paragraph, few of one document."""
    all_runs = list(runs())
    chance.shuffle(all_runs)
    taken: dict[str, int] = {}
    chosen = []
    for document, three in all_runs:
        if taken.setdefault(document, 0) < 4 and len(chosen) < count:
            taken[document] += 1
            chosen.append((document, three))
    found = []
    for (document, three), place in zip(chosen, places(len(chosen), chance), strict=True):
        wrong = chance.sample([order for order in permutations(range(3)) if order != (0, 1, 2)], OPTIONS - 1)
        shown = list(range(3))
        chance.shuffle(shown)
        listed = "\n".join(f"{number}. {three[one]}" for number, one in enumerate(shown, 1))
        target = ", ".join(str(shown.index(one) + 1) for one in range(3))
        texts = [" ".join(three[one] for one in order) for order in wrong]
        question, free = "W której kolejności te zdania tworzą spójny tekst?", f"{listed}\n{ORDER}"
        found.append(item(question, " ".join(three), texts, place, target=target, free=free, source=document))
    return found


MAKERS = {
    "capitals": capitals,
    "synonyms": synonyms,
    "number_words": number_words,
    "arithmetic": arithmetic,
    "agreement": agreement,
    "sentence_order": sentence_order,
}
