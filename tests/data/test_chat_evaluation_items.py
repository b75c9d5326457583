"""Chat data with evaluation items in it: no row that is learned from holds one."""

import json

import pytest

from nemo_plugins.configs.schema import DecontaminationConfig
from nemo_plugins.data.chat import evaluation_items, messages, preferences, prompts, rows

PASSAGE = "Nad rzeką stał młyn, a w nim mieszkał młynarz, który co rano karmił trzy czarne koty i jednego białego psa."
QUESTION = "Ile kotów karmił młynarz, który mieszkał nad rzeką?"
STATUTE = "niniejsza ustawa wchodzi w życie po upływie trzydziestu dni od dnia jej ogłoszenia w Dzienniku Ustaw"


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def answered(text: str, answer: str = "Trzy.") -> dict:
    return {"messages": [*user(text), {"role": "assistant", "content": answer}]}


KINDS = {
    "sft": (messages.check, answered),
    "dpo": (preferences.check, lambda text: {"messages": user(text), "chosen": "Trzy.", "rejected": "Dwa."}),
    "grpo": (prompts.checker({"boxed_math": {"boxed_math": 1.0}}),
             lambda text: {"messages": user(text), "kind": "boxed_math", "reference": "3"}),
}  # fmt: skip


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def items(tmp_path):
    item = {"question": QUESTION, "passage": PASSAGE}
    file = write(tmp_path / "items.jsonl", [item, {"question": f"Gdy {STATUTE}, od kiedy kto jest nią naprawdę związany?"}])
    return evaluation_items.of(DecontaminationConfig([str(file)], ngram=13, common=10), tmp_path / "run")


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_with_an_item_is_counted_and_left_out(tmp_path, items, kind):
    check, row = KINDS[kind]
    held = [f"Pytanie: {QUESTION.upper()}", f"Przeczytaj. {PASSAGE} Ile to kotów?", " ".join(PASSAGE.split()[3:17])]
    common = [f"Sprawa {number}: {STATUTE}." for number in range(11)]
    file = write(tmp_path / "data.jsonl", map(row, [*held, "Ile to jest dwa i jeden?", *common]))
    report = rows.Report("data")
    kept = list(rows.read([file], items.guard(check, items.counted([rows.Piece(file)])), report))
    assert report.faults == {"evaluation": 3} and len(kept) == 12


def test_answers_and_every_turn_are_looked_at(tmp_path, items):
    turns = [*answered("Opowiedz coś.", f"Proszę. {PASSAGE}")["messages"], *answered("Dziękuję.", "Proszę bardzo.")["messages"]]
    pair = {"prompt": user("Opowiedz."), "chosen": "Nie.", "rejected": PASSAGE}
    for check, row in ((messages.check, {"messages": turns}), (preferences.check, pair)):
        file = write(tmp_path / "data.jsonl", [row, row])
        report = rows.Report("data", kept=1)
        guarded = items.guard(check, items.counted([rows.Piece(file)]))
        assert list(rows.read([file], guarded, report)) == [] and report.faults == {"evaluation": 2}


def test_other_items_are_another_key_and_none_are_none(tmp_path, items):
    file = write(tmp_path / "other.jsonl", [{"question": QUESTION}])
    other = evaluation_items.of(DecontaminationConfig([str(file)], ngram=13, common=10), tmp_path / "another")
    assert other.key != items.key
    assert evaluation_items.of(DecontaminationConfig([], ngram=13, common=10), tmp_path / "none") is None
