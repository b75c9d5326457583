"""Prompts with references: what no reward could ever reward is named before training."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from nemo_plugins.alignment.rewards.scoring import Scorer
from nemo_plugins.data.chat import prompts, rows
from nemo_plugins.runs.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "assets" / "chat_samples"
ASK = [{"role": "user", "content": "Ile to jest 2 + 2?"}]
CALL = {"name": "pogoda", "arguments": {"miasto": "Łódź"}}
MIX = {
    "boxed_math": {"boxed_math": 1.0, "polish_language": 0.1},
    "multiple_choice": {"multiple_choice": 1.0},
    "tool_call": {"tool_call": 1.0},
    "talk": {"polish_language": 1.0},
}


def read(tmp_path, *found, policy="drop", mix=MIX):
    file, report = tmp_path / "a.jsonl", rows.Report("grpo.data", policy)
    file.write_text("".join(json.dumps(row) + "\n" for row in found))
    return list(rows.read([file], prompts.checker(mix), report)), report


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"reference": None}, "no_reference"),
        ({"reference": "  "}, "no_reference"),
        ({"reference": True}, "reference"),
        ({"reference": "cztery"}, "reference"),
        ({"kind": "multiple_choice", "reference": "Warszawa"}, "reference"),
        ({"kind": "tool_call", "reference": {"name": "pogoda"}}, "reference"),
        ({"kind": "essay"}, "kind"),
        ({"kind": ["boxed_math"]}, "kind"),
        ({"messages": [*ASK, {"role": "assistant", "content": "4"}]}, "alternation"),
        ({"messages": []}, "no_messages"),
    ],
)
def test_what_could_never_be_rewarded_is_counted(tmp_path, row, kind):
    good = {"messages": ASK, "kind": "boxed_math", "reference": "4"}
    found, report = read(tmp_path, good, {**good, **row})
    assert len(found) == 1 and report.faults == {kind: 1} and report.places[kind][0].startswith("a.jsonl:2: ")


def test_a_distillation_takes_prompts_and_dialogues_and_needs_no_reference(tmp_path, template):
    answered = {"messages": [*ASK, {"role": "assistant", "content": "4"}]}
    scored = {"messages": ASK, "kind": "boxed_math", "reference": 4}
    file = tmp_path / "a.jsonl"
    file.write_text(
        "".join(json.dumps(row) + "\n" for row in (answered, {"messages": ASK}, scored, scored | {"kind": "essay"}))
    )
    found, _ = prompts.load([file], template, prompts.open_checker(MIX), key="opd.data", policy="error", longest=60)
    ids = template.ids(ASK, add_generation_prompt=True)
    assert [list(one.ids) for one in found] == 4 * [ids]
    assert [(one.kind, one.reference) for one in found] == [("", ""), ("", ""), ("boxed_math", "4"), ("", "")]
    assert [one.answer for one in found] == ["4", "", "", ""]
    whole = template.ids(answered["messages"])
    assert [*ids, *found[0].answer_ids] == whole[: whole.index(template.end, len(ids)) + 1]
    with pytest.raises(UserError, match="no_answer 3"):
        prompts.load([file], template, prompts.open_checker(MIX, answered=True), key="opd.data", policy="error", longest=60)


def test_prompts_without_references_are_refused(tmp_path):
    with pytest.raises(UserError, match="grpo.data: no usable row(?s:.)*no_reference 2"):
        read(tmp_path, *2 * [{"messages": ASK, "kind": "boxed_math"}])
    with pytest.raises(UserError, match="1 of 2 rows cannot be used"):
        read(tmp_path, {"messages": ASK, "kind": "talk"}, {"messages": ASK, "kind": "boxed_math"}, policy="error")
    with pytest.raises(UserError, match="reward 'boxed_mth' is not there"):
        prompts.checker({"boxed_math": {"boxed_mth": 1.0, "tool_call": 1.0}})
    with pytest.raises(UserError, match="expected a reward"):
        prompts.checker({"boxed_math": {}})


def test_numbers_and_objects_become_what_the_rewards_read(tmp_path):
    boxed, called, free = read(
        tmp_path,
        {"prompt": ASK, "kind": "boxed_math", "reference": 4},
        {"messages": ASK, "kind": "tool_call", "reference": CALL},
        {"messages": ASK, "kind": "talk"},
    )[0]
    answers = [r"\boxed{4}", f"<tool_call>{json.dumps(CALL)}</tool_call>", "Cztery."]
    asked = (boxed, called, free)
    scores = Scorer(MIX).score([x.text for x in asked], answers, [x.reference for x in asked], [x.kind for x in asked])
    assert scores.totals == [1.1, 1.0, 1.0] and free.reference == ""


def test_a_prompt_ends_where_the_model_answers(template):
    [first, *rest], report = prompts.load(
        [SAMPLES / "grpo_heldout.jsonl.gz"], template, prompts.checker(MIX), key="grpo.data", policy="error", longest=256
    )
    tokenizer = AutoTokenizer.from_pretrained(REPOSITORY / "assets" / "tiny_pl")
    assert list(first.ids) == tokenizer.apply_chat_template(first.messages, add_generation_prompt=True)
    assert report["kept"] == len(rest) + 1 == 280
    short = len(first.ids)
    kept, report = prompts.load(
        [SAMPLES / "grpo_heldout.jsonl.gz"], template, prompts.checker(MIX), key="grpo.data", policy="drop", longest=short
    )
    assert report["faults"] == {"prompt_too_long": 280 - len(kept)} and max(len(x.ids) for x in kept) == short
