"""Evaluation items hidden in training text are found, whatever their typography; other text is left alone."""

import gzip
import json
import pickle
import random
from pathlib import Path

import pytest

from nemo_plugins.data.corpus.contamination import Contamination, items
from nemo_plugins.data.corpus.words import words
from nemo_plugins.data.exercises import exercises
from nemo_plugins.runs import UserError

TEXT = Path(__file__).resolve().parents[2] / "assets" / "polish_text"


@pytest.fixture(scope="module")
def documents() -> list[str]:
    with gzip.open(TEXT / "train.jsonl.gz", "rt") as lines:
        return [text for text, _ in zip((json.loads(line)["text"] for line in lines), range(2000), strict=False)]


@pytest.fixture(scope="module")
def evaluation(documents) -> list[str]:
    """Long items, which are passages that no document here holds, and short ones, which are exercises."""
    with gzip.open(TEXT / "heldout.jsonl.gz", "rt") as lines:
        passages = [text for text in (json.loads(line)["text"] for line in lines) if 20 <= len(words(text)) <= 60]
    known = {" ".join(words(text)) for text in documents}
    there = [
        text for text in passages if not any(" ".join(words(text)[at : at + 13]) in one for one in known for at in (0, 3, 7))
    ]
    short = [f"{one.question} {one.answer}" for one in exercises("heldout", 60, 1)]
    return there[:60] + [one for one in short if len(words(one)) >= 6][:40]


CHANGES = {
    "exact": lambda item: item,
    "upper case": str.upper,
    "lower case": str.lower,
    "without punctuation": lambda item: " ".join(words(item)),
    "other punctuation": lambda item: item.replace(" ", " – ", 1).replace(".", "!").replace(",", ";").replace("„", '"'),
    "other spacing": lambda item: item.replace(" ", "\n\t "),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_hidden_item_is_found(documents, evaluation, change):
    contamination, rng = Contamination(evaluation), random.Random(change)
    assert not contamination.uncheckable
    for item in evaluation:
        host = rng.choice(documents).split(" ")
        place = rng.randint(0, len(host))
        found = contamination.found(" ".join([*host[:place], CHANGES[change](item), *host[place:]]))
        assert found is not None, item


def test_half_of_a_long_item_is_enough_and_twelve_words_are_not():
    item = " ".join(f"słowo{number}" for number in range(30))
    contamination = Contamination([item])
    inside = item.split()
    assert contamination.found("przed " + " ".join(inside[9:22]) + " po") == item
    assert contamination.found("przed " + " ".join(inside[9:21]) + " po") is None


def test_what_it_finds_is_what_a_search_through_all_runs_finds(documents, evaluation):
    contamination = Contamination(evaluation)
    runs = []
    for item in evaluation:
        found = words(item)
        runs += [f" {' '.join(found[at : at + 13])} " for at in range(max(1, len(found) - 12))]
    for text in documents[:400]:
        joined = f" {' '.join(words(text))} "
        assert (contamination.found(text) is not None) == any(run in joined for run in runs), text


def test_items_too_short_to_look_for_are_named():
    contamination = Contamination(["Tak.", "Ile to jest 2 + 2?"])
    assert contamination.uncheckable == ["Tak."]
    assert contamination.found("No i tak. Tak!") is None
    assert contamination.found("Pytam: ile TO jest 2+2?") == "Ile to jest 2 + 2?"


def test_it_travels_to_other_processes(evaluation):
    again = pickle.loads(pickle.dumps(Contamination(evaluation)))
    assert again.found(evaluation[0]) is not None


def test_items_of_a_file(tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text('{"question": "Ile?", "choices": {"text": ["dwa", "trzy"]}, "answer": 1}\n\n')
    assert list(items(file)) == ["Ile?", "dwa", "trzy"]
    file.write_text("{}\n{\n")
    with pytest.raises(UserError, match=r"items\.jsonl:2"):
        list(items(file))
    with pytest.raises(UserError, match="no file"):
        list(items(tmp_path / "none.jsonl"))
