"""Evaluation items in the corpus: every one that hides is found, however it is written, and nothing else is."""

import gzip
import json
import pickle
import random
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest

from nemo_plugins.data.corpus.contamination import Commons, Contamination, load_items
from nemo_plugins.runs.errors import UserError

TEXT = Path(__file__).parents[2] / "assets" / "polish_text"
DISGUISES = {
    "exact": str,
    "upper case": str.upper,
    "title case": str.title,
    "decomposed accents": lambda text: unicodedata.normalize("NFD", text),
    "no punctuation": lambda text: " ".join("".join(c if c.isalnum() else " " for c in text).split()),
    "other signs": lambda text: text.translate(
        str.maketrans({",": " –", ".": "…", "?": "!", "„": '"', "”": '"', "-": "\u2011"})
    ),
    "line breaks": lambda text: text.replace(" ", "\n"),
    "hard and wide spaces": lambda text: text.replace(" ", "\u00a0\t "),
    "quoted": lambda text: f"«{text}»",
    "soft hyphens": lambda text: "".join(f"{a}\u00ad" if a.isalpha() and b.isalpha() else a for a, b in pairwise(text + " ")),
}


def read(name: str) -> list[str]:
    with gzip.open(TEXT / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


@pytest.fixture(scope="module")
def documents():
    return read("train")


@pytest.fixture(scope="module")
def items(documents):
    """Sentences of the held-out text, 4 to 60 words long, that no document of the training text holds word by word."""
    sentences = {line for text in read("heldout") for line in text.splitlines() if 4 <= len(key(line).split()) <= 60}
    corpus = " ".join(map(key, documents))
    runs = set(zip(*(corpus.split()[start:] for start in range(13)), strict=False))

    def known(sentence: str) -> bool:
        tokens = key(sentence).split()
        if len(tokens) < 13:
            return f" {' '.join(tokens)} " in corpus
        return any(run in runs for run in zip(*(tokens[start:] for start in range(13)), strict=False))

    chosen = [sentence for sentence in sorted(sentences) if not known(sentence)]
    assert len(chosen) > 500 and sum(len(key(sentence).split()) < 13 for sentence in chosen) > 100
    return chosen


def key(text: str) -> str:
    """The words of a text, by other means than the code's."""
    return " ".join("".join(c if c.isalnum() else " " for c in unicodedata.normalize("NFC", text.lower())).split())


@pytest.mark.parametrize("disguise", DISGUISES)
def test_every_hidden_item_is_found(items, documents, disguise):
    contamination = Contamination(items)
    rng = random.Random(disguise)
    for item in rng.sample(items, 300):
        host = rng.choice(documents).split(" ")
        place = rng.randrange(len(host) + 1)
        plain, hidden = (" ".join([*host[:place], text, *host[place:]]) for text in (item, DISGUISES[disguise](item)))
        hit = contamination.found(hidden)
        assert hit is not None, item
        assert hit == item or key(hit) in key(plain) or len(key(hit).split()) >= 13  # another item may be a part of this one


def test_unrelated_text_holds_none(items, documents):
    contamination = Contamination(items)
    assert [text for text in documents if contamination.found(text)] == []


def test_a_part_of_a_long_item_is_enough_and_of_a_short_one_not():
    long = "Które z podanych miast leży najdalej na północ od stolicy kraju, licząc wzdłuż południka, który przez nią idzie?"
    short = "Jakie miasto jest stolicą Polski?"
    contamination = Contamination([long, short])
    assert contamination.found("Zadanie: " + " ".join(long.split()[2:15])) == long
    assert contamination.found(" ".join(long.split()[2:14])) is None
    assert contamination.found("Nie wiem, JAKIE MIASTO JEST STOLICĄ POLSKI i kropka") == short
    assert contamination.found("jakie miasto jest stolicą Polskie") is None
    assert contamination.found("jakie miasto jest stolica Polski") is None


def test_digits_are_words_and_their_separators_gaps():
    contamination = Contamination(["Ile to jest 12 345 razy 7?"])
    assert contamination.found("Ile to jest 12.345 razy 7")
    assert contamination.found("Ile to jest 12 346 razy 7?") is None


def test_the_item_given_first_is_named():
    first, second = "kolejność jest tutaj zupełnie jasna", "druga pozycja stoi w tekście wcześniej"
    assert Contamination([first, second]).found(f"{second} {first}") == first


def test_items_too_short_to_look_for_are_listed():
    contamination = Contamination(["Tak.", "", "Dzień dobry, Polsko", "Konstantynopolitańczykowianeczka?", "A czy to on?"])
    assert contamination.unchecked == ["Tak.", "", "Dzień dobry, Polsko"]
    assert contamination.found("Tak. Dzień dobry, Polsko!") is None
    assert contamination.found("oto konstantynopolitańczykowianeczka") == "Konstantynopolitańczykowianeczka?"
    assert contamination.found("Pyta: a czy to on") == "A czy to on?"


def test_no_items_find_nothing_and_neither_does_empty_text(items):
    assert Contamination([]).found("cokolwiek") is None
    assert Contamination(items).found("") is None
    assert Contamination(items).found("\ud800 zepsuty znak") is None


def test_it_travels_to_other_processes(items):
    copy = pickle.loads(pickle.dumps(Contamination(items)))
    assert copy.found(f"przed {items[0]} po") == items[0]


def test_items_are_loaded_by_field_or_wherever_text_is(tmp_path):
    records = [
        {"question": "Kto to napisał?", "text": "nie to", "answer": "Prus"},
        {"text": "Samo „text”"},
        {"passage": ["pierwszy", {"inner": "drugi"}], "id": 3},
        "sam napis",
    ]
    path = tmp_path / "items.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n\n".join(json.dumps(record) for record in records))
    assert load_items([path]) == ["Kto to napisał?", "nie to", "Samo „text”", "pierwszy", "drugi", "sam napis"]
    path = tmp_path / "items.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(records[0]).encode() + b"\r\n \t\n")
    assert load_items([path], fields=["text", "answer"]) == ["nie to", "Prus"]


def test_passages_are_items_as_their_questions_are(tmp_path):
    long = "Długi fragment w polu, którego nazwy nikt nie zna, ma jednak więcej niż trzynaście zwykłych słów."
    passage, answer = "W tym domu mieszka stary młynarz.", "młynarz z żoną i psem"
    records = [
        {"question": "Kto tam mieszka?", "flores_passage": passage, "mc_answer1": answer},
        {"pytanie": "Co widać?", "xyz": long, "id": "pytanie numer sto dwa z pliku"},
        {"paragraphs": [{"context": "Akapit o rzece.", "qas": [{"question": "Nad czym jest most?"}]}]},
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records))
    found = ["Kto tam mieszka?", passage, "Co widać?", long, "Akapit o rzece.", "Nad czym jest most?"]
    assert load_items([path]) == found


STATUTE = (
    "rozporządzenie wchodzi w życie po upływie czternastu dni od dnia ogłoszenia w Dzienniku Ustaw Rzeczypospolitej Polskiej"
)
QUESTION = f"Jeśli {STATUTE}, to od kiedy wiąże ono ministra, który je podpisał?"


def test_boilerplate_gives_no_item_away():
    contamination = Contamination([QUESTION])
    few, many = Commons(contamination), Commons(contamination)
    for number in range(11):
        many.add(f"Paragraf {number}: {STATUTE}.")
        if number:
            few.add(f"Paragraf {number}: {STATUTE}.")
    assert contamination.found(f"Zatem {STATUTE}.") == QUESTION
    assert contamination.found(f"Zatem {STATUTE}.", few.runs) == QUESTION  # 10 documents
    assert contamination.found(f"Zatem {STATUTE}.", many.runs) is None
    assert contamination.found(f"Egzamin: {QUESTION}", many.runs) == QUESTION
    assert contamination.found(" ".join(QUESTION.split()[-14:]), many.runs) == QUESTION


def test_half_a_character_in_an_item_can_be_saved_and_hides_nothing(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b'{"question": "Kto \\ud83d napisal te powiesc?"}\n')
    found = Contamination(load_items([path])).found("Pytanie: kto napisal te powiesc?")
    assert found.encode() == b"Kto ? napisal te powiesc?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question": "a"}\n{broken', "items.jsonl:2: no JSON"),
        (b'{"question": 5}\n', "items.jsonl:1: no text"),
        (b"\xff\xfe\x00", "not readable"),
    ],
)
def test_broken_items_are_refused_with_their_place(tmp_path, content, message):
    path = tmp_path / "items.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_items([path])
    with pytest.raises(UserError, match="no such file"):
        load_items([tmp_path / "other.jsonl"])
