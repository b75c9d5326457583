"""The samples that ship: right, made by their script, and nothing of what is held out in training."""

import gzip
import importlib.util
import json
import re
from pathlib import Path

import pytest

from nemo_plugins.data.capitals import COUNTRIES
from nemo_plugins.data.number_words import from_words

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "chat_samples"
KINDS, SPLITS = ("sft", "preferences", "grpo"), ("train", "heldout")
CALCULATION = re.compile(r"(\d+) ([-+*·:/]) (\d+)")
IN_WORDS = re.compile(r"(?:Zapisz cyframi liczbę|Zapisz cyframi:|Jaka to liczba:) ([^.?]+)[.?]")
CAPITALS = {country.genitive: country.capital for country in COUNTRIES}


def rows(kind: str, split: str) -> list[dict]:
    with gzip.open(SAMPLES / f"{kind}_{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def question(row: dict) -> str:
    return row["messages"][0]["content"]


def answer(row: dict) -> str:
    """The right answer, as the row has it."""
    if "chosen" in row:
        return row["chosen"]
    return row["reference"] if "reference" in row else row["messages"][1]["content"]


def calculated(row: dict) -> int | None:
    """What the calculation in digits gives, by Python."""
    if not (found := CALCULATION.search(question(row))):
        return None
    left, sign, right = int(found[1]), found[2], int(found[3])
    return left + right if sign == "+" else left - right if sign == "-" else left * right if sign in "*·" else left // right


def fact(row: dict) -> tuple | None:
    """One name for 17 + 25, 25 + 17 and 42 - 17: the three numbers, and whether they are added or multiplied."""
    if not (found := CALCULATION.search(question(row))):
        return None
    return (found[2] in "+-", *sorted([int(found[1]), int(found[3]), calculated(row)]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_script_makes_what_ships(kind):
    spec = importlib.util.spec_from_file_location("make_chat_samples", SAMPLES / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    for split, count in zip(SPLITS, make.COUNTS[kind], strict=True):
        assert make.rows(kind, split, count) == rows(kind, split)


def test_answers_are_right_and_rejected_ones_wrong():
    checked = 0
    for row in (row for kind in KINDS for split in SPLITS for row in rows(kind, split)):
        country = re.search(r"(?:stolica|stolicę|stolicą) (\w[^?.]*)[?.]", question(row))
        if (value := calculated(row)) is not None:
            right = str(value)
        elif words := IN_WORDS.search(question(row)):
            right = str(from_words(words[1]))
        elif country and country[1] in CAPITALS:
            right = CAPITALS[country[1]]
        elif number := re.search(r"liczbę (\d+)", question(row)):
            assert from_words(answer(row)) == int(number[1])
            right = answer(row)
        else:
            continue
        checked += 1
        assert answer(row) == right, row
        assert row.get("rejected") != right
    assert checked > 2000


@pytest.mark.parametrize("kind", KINDS)
def test_rejected_answers_are_different(kind):
    for row in rows(kind, "train") + rows(kind, "heldout"):
        assert row.get("rejected", "").strip() != answer(row) and answer(row).strip()


def test_nothing_held_out_is_in_any_training_file():
    train, heldout = ([row for kind in KINDS for row in rows(kind, split)] for split in SPLITS)
    assert not {question(row) for row in train} & {question(row) for row in heldout}
    facts = [{found for row in of if (found := fact(row))} for of in (train, heldout)]
    assert len(facts[1]) > 50 and not facts[0] & facts[1]
