"""The probes: options that are different, places that are balanced, facts that no training text gives away."""

import re
import sys
from collections import Counter

import pytest

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data.exercises import exercises
from nemo_plugins.evaluation.tasks import data

NAMES = ("capitals", "synonyms", "number_words", "arithmetic", "agreement")


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
    assert len({row["question"] for row in rows}) > 0.9 * len(rows)


def test_no_training_text_gives_an_answer_away(make, probes):
    """One of the items that are asked in training, put back, is found; of those that are shipped, none is."""
    texts = make.training_texts()
    everything = [row for rows in probes.values() for row in rows]
    seen = {"question": "Jaka jest stolica Polski?", "options": ["Warszawa", "a", "b", "c"], "answer": 0, "target": "Warszawa"}
    kept, bad, _ = make.clean([seen, *everything], [*texts, "Jaka jest stolica Polski? Warszawa"])
    assert bad == 1 and kept == everything


def test_no_training_exercise_asks_an_item(probes):
    """Not one of its questions; of a sentence with a gap, in none of its wordings either."""
    trained = exercises("train", 60_000, seed=5)
    asked = {one.question for one in trained}
    gaps = {gap(one.question) for one in trained if one.kind == "agreement"}
    assert not asked & {row["question"] for rows in probes.values() for row in rows}
    assert len(gaps) > 3000 and not gaps & {gap(row["question"]) for row in probes["agreement"]}


def gap(question: str) -> tuple[str, str]:
    """The word and the sentence that it is to be put in."""
    return re.search("„(.+?)”", question)[1], question.split(": ", 1)[1]


def test_what_the_folder_holds_is_what_its_maker_makes(make, probes):
    import random

    for name in NAMES:
        made = {row["question"]: row for row in make.MAKERS[name](random.Random(f"probes {name}"))}
        assert all(made.keys() >= {row["question"]} for row in probes[name]), name
