"""The probes: options that are different, places that are balanced, facts that no training text gives away."""

import sys
from collections import Counter

import pytest

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data.exercises import split_of, synonym_pairs
from nemo_plugins.evaluation.tasks import data

NAMES = ("capitals", "synonyms", "number_words", "arithmetic", "agreement", "sentence_order")


@pytest.fixture(scope="module")
def make():
    sys.path.insert(0, str(REPOSITORY / "assets" / "evaluation"))
    try:
        import make
    finally:
        sys.path.pop(0)
    return make


@pytest.fixture(scope="module")
def probes() -> dict[str, list[dict]]:
    return {name: data._rows(data.ASSETS / "evaluation" / f"{name}.jsonl.gz") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_four_different_options_and_balanced_places(probes, name):
    rows = probes[name]
    assert all(len(set(row["options"])) == 4 and 0 <= row["answer"] < 4 for row in rows)
    places = Counter(row["answer"] for row in rows)
    assert max(places.values()) - min(places[place] for place in range(4)) <= 1
    assert len({row["id"] for row in rows}) == len(rows) > 30
    assert len({row.get("free", row["question"]) for row in rows}) > 0.9 * len(rows)


def test_no_training_text_gives_an_answer_away(make, probes):
    """One of the items that are asked in training, put back, is found; of those that are shipped, none is."""
    texts = make.training_texts()
    everything = [row for rows in probes.values() for row in rows]
    seen = {"question": "Jaka jest stolica Polski?", "options": ["Warszawa", "a", "b", "c"], "answer": 0, "target": "Warszawa"}
    kept, bad, _ = make.clean([seen, *everything], [*texts, "Jaka jest stolica Polski? Warszawa"])
    assert bad == 1 and kept == everything


def test_synonyms_are_of_held_out_pairs(probes):
    pairs = {frozenset(pair) for pair in synonym_pairs() if split_of(f"synonym {' '.join(pair)}") == "heldout"}
    asked = {
        frozenset((row["question"].split("„")[1].split("”")[0], row["options"][row["answer"]])) for row in probes["synonyms"]
    }
    assert asked == pairs


def test_the_right_order_is_the_texts_own(probes):
    documents = {row["id"]: " ".join(row["text"].split()) for row in data._rows(make_text())}
    for row in probes["sentence_order"]:
        assert " ".join(row["options"][row["answer"]].split()) in documents[row["source"]]
        listed = dict(line.split(". ", 1) for line in row["free"].split("\n")[:3])
        assert " ".join(listed[number] for number in row["target"].split(", ")) == row["options"][row["answer"]]


def make_text():
    return data.ASSETS / "polish_text" / "heldout.jsonl.gz"


def test_what_the_folder_holds_is_what_its_maker_makes(make, probes):
    import random

    for name in ("capitals", "agreement", "number_words"):
        made = {row["question"]: row for row in make.MAKERS[name](random.Random(f"probes {name}"))}
        assert all(made.keys() >= {row["question"]} for row in probes[name]), name
