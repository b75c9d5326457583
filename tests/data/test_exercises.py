"""The exercises are right, the number words are Polish, and what is held out stays out of train."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_plugins.data.agreement import gaps
from nemo_plugins.data.capitals import COUNTRIES
from nemo_plugins.data.exercises import Exercise, chatml, exercises, synonym_pairs
from nemo_plugins.data.number_words import from_words, to_words

# Typed by hand from a Polish grammar, not from the code.
NUMBERS = {
    0: "zero",
    1: "jeden",
    2: "dwa",
    3: "trzy",
    4: "cztery",
    5: "pięć",
    6: "sześć",
    7: "siedem",
    8: "osiem",
    9: "dziewięć",
    10: "dziesięć",
    11: "jedenaście",
    12: "dwanaście",
    14: "czternaście",
    15: "piętnaście",
    16: "szesnaście",
    19: "dziewiętnaście",
    20: "dwadzieścia",
    21: "dwadzieścia jeden",
    30: "trzydzieści",
    44: "czterdzieści cztery",
    50: "pięćdziesiąt",
    55: "pięćdziesiąt pięć",
    66: "sześćdziesiąt sześć",
    78: "siedemdziesiąt osiem",
    80: "osiemdziesiąt",
    99: "dziewięćdziesiąt dziewięć",
    100: "sto",
    101: "sto jeden",
    115: "sto piętnaście",
    200: "dwieście",
    245: "dwieście czterdzieści pięć",
    300: "trzysta",
    412: "czterysta dwanaście",
    500: "pięćset",
    617: "sześćset siedemnaście",
    720: "siedemset dwadzieścia",
    833: "osiemset trzydzieści trzy",
    990: "dziewięćset dziewięćdziesiąt",
    1000: "tysiąc",
    1001: "tysiąc jeden",
    1100: "tysiąc sto",
    1918: "tysiąc dziewięćset osiemnaście",
    2000: "dwa tysiące",
    2024: "dwa tysiące dwadzieścia cztery",
    3013: "trzy tysiące trzynaście",
    4444: "cztery tysiące czterysta czterdzieści cztery",
    5000: "pięć tysięcy",
    6060: "sześć tysięcy sześćdziesiąt",
    9999: "dziewięć tysięcy dziewięćset dziewięćdziesiąt dziewięć",
}
WORD_SIGNS = {
    "dodać": "+",
    "plus": "+",
    "odjąć": "-",
    "minus": "-",
    "razy": "*",
    "pomnożyć przez": "*",
    "podzielić przez": "/",
    "podzielone przez": "/",
}
GAPS = {(gap.word, gap.sentence): gap for kind in gaps().values() for gap in kind}
# Typed by hand from a Polish grammar, not from the code: word, sentence, form.
SENTENCES = (
    ("wyjść", "Sąsiedzi … na ulicę.", "wyszli"),
    ("wyjść", "Psy … na ulicę.", "wyszły"),
    ("usiąść", "Dziecko … przy drzwiach.", "usiadło"),
    ("zasnąć", "Ciocia … przy piecu.", "zasnęła"),
    ("czarny", "To są … spodnie.", "czarne"),
    ("zielony", "To jest … sukienka.", "zielona"),
    ("jabłko", "Na zdjęciu widać pięć ….", "jabłek"),
    ("owca", "Na zdjęciu widać dwie ….", "owce"),
    ("koń", "Na zdjęciu widać dwadzieścia trzy ….", "konie"),
    ("las", "Samolot leci nad ….", "lasem"),
    ("rzeka", "Długo przyglądaliśmy się ….", "rzece"),
    ("most", "Rozmawialiśmy o ….", "moście"),
    ("zamek", "Stoimy obok ….", "zamku"),
    ("wieża", "Z daleka widać ….", "wieżę"),
)
RESULT = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_are_written_as_poles_write_them(number):
    assert to_words(number) == NUMBERS[number]


def test_every_number_comes_back_from_its_words():
    assert all(from_words(to_words(number)) == number for number in range(10_000))
    assert len({to_words(number) for number in range(10_000)}) == 10_000


@pytest.mark.parametrize("text", ["", "pięć dwadzieścia", "dwa tysięcy", "pięć tysiące", "sto zero", "kot"])
def test_words_that_are_no_number_are_refused(text):
    with pytest.raises(ValueError, match="Polish number"):
        from_words(text)


@pytest.mark.parametrize("number", [-1, 10_000])
def test_a_number_out_of_range_is_refused(number):
    with pytest.raises(ValueError, match="0 to 9999"):
        to_words(number)


def calculation(exercise: Exercise) -> tuple[int, str, int]:
    """The task read back from the question, without the code that wrote it."""
    if exercise.kind == "arithmetic":
        left, sign, right = re.search(r"(\d+) ([-+*·:/]) (\d+)", exercise.question).groups()
        return int(left), {"·": "*", ":": "/"}.get(sign, sign), int(right)
    task = re.sub(r"^(Ile to jest|Oblicz:) |[?.]$", "", exercise.question)
    left, words, right = re.fullmatch(rf"(.+) ({'|'.join(WORD_SIGNS)}) (.+)", task).groups()
    return from_words(left), WORD_SIGNS[words], from_words(right)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_answers_are_right(split):
    capitals = {c.genitive: c.capital for c in COUNTRIES}
    countries = {c.capital: c.nominative for c in COUNTRIES}
    pairs = {tuple(sorted(pair)) for pair in synonym_pairs()}
    seen = set()
    for e in exercises(split, 4000, seed=1):
        seen.add(e.kind)
        if e.kind.startswith("arithmetic"):
            left, sign, right = calculation(e)
            answer = int(e.answer) if e.kind == "arithmetic" else from_words(e.answer)
            assert answer == RESULT[sign](left, right) and answer >= 0, e
            assert sign != "/" or answer * right == left, e
        elif e.kind == "number_to_words":
            assert from_words(e.answer) == int(re.search(r"\d+", e.question)[0]), e
        elif e.kind == "words_to_number":
            words = re.sub(r"^(Zapisz cyframi liczbę|Zapisz cyframi:|Jaka to liczba:) |[?.]$", "", e.question)
            assert from_words(words) == int(e.answer), e
        elif e.kind == "capital":
            assert capitals[re.search(r"(?:stolica|stolicę|stolicą) (.+)[?.]$", e.question)[1]] == e.answer, e
        elif e.kind == "country":
            assert countries[re.search(r" (?:jest|są) (.+)[?.]$", e.question)[1]] == e.answer, e
        elif e.kind == "synonym":
            assert tuple(sorted((re.search("„(.+)”", e.question)[1], e.answer))) in pairs, e
        else:
            gap = GAPS[re.search("„(.+?)”.*: (.+)$", e.question).groups()]
            assert e.answer == gap.right and gap.sentence.count("…") == 1, e
    assert len(seen) == 8


def test_no_heldout_fact_is_in_train():
    def facts(split):
        found = set()
        for e in exercises(split, 20_000, seed=3):
            if e.kind.startswith("arithmetic"):
                left, sign, right = calculation(e)
                whole = left if sign in "-/" else RESULT[sign](left, right)
                parts = (whole - right if sign in "+-" else left if sign == "*" else left // right, right)
                found.add(("+" if sign in "+-" else "*", *sorted(parts)))
            elif "number" in e.kind:
                found.add(from_words(e.answer) if e.kind == "number_to_words" else int(e.answer))
            elif e.kind == "agreement":
                found.add(re.search("„(.+?)”.*: (.+)$", e.question).groups())
            else:
                found.add(e.question)
        return found

    train, heldout = facts("train"), facts("heldout")
    assert not train & heldout
    assert len(heldout) > 1000


def test_every_capital_and_synonym_is_asked_in_train_and_in_heldout():
    every = {"capital": {c.capital for c in COUNTRIES}, "synonym": {word for pair in synonym_pairs() for word in pair}}
    for split in ("train", "heldout"):
        found = exercises(split, 20_000, seed=0)
        assert {kind: {e.answer for e in found if e.kind == kind} for kind in every} == every


def test_the_country_table_has_no_row_twice():
    assert len({c.nominative for c in COUNTRIES}) == len({c.capital for c in COUNTRIES}) == len(COUNTRIES) >= 180
    assert all(part == part.strip() and part for country in COUNTRIES for part in country)


def test_a_synonym_question_has_one_answer():
    words = [word for pair in synonym_pairs() for word in pair]
    assert len(words) == len(set(words))


def test_another_process_with_another_hash_seed_gives_the_same_list():
    code = "from nemo_plugins.data.exercises import exercises; print(exercises('train', 300, 7))"
    env = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONIOENCODING": "utf-8"}
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, check=True)
    assert run.stdout.decode().strip() == str(exercises("train", 300, 7))
    assert exercises("train", 300, 7) != exercises("train", 300, 8)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="train, heldout"):
        exercises("test", 1, 0)


def test_chatml_is_bieliks():
    text = chatml(Exercise("arithmetic", "Ile to jest 1 + 1?", "2"))
    assert text == "<|im_start|>user\nIle to jest 1 + 1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"


@pytest.mark.parametrize(("word", "sentence", "form"), SENTENCES)
def test_forms_agree_as_poles_say_them(word, sentence, form):
    assert GAPS[word, sentence].right == form


def test_a_sentence_with_a_gap_has_one_answer():
    """No two of them ask the same; each word has four different forms at least, for the options to choose from."""
    every = [gap for kind in gaps().values() for gap in kind]
    assert len({(gap.word, gap.sentence) for gap in every}) == len(every)
    assert all(gap.right in gap.forms and len(set(gap.forms)) >= 4 for gap in every)
