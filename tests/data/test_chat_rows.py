"""Chat files: every way a row can be wrong is counted under its name, and nothing else is dropped."""

import gzip
import json
import subprocess
import sys

import pytest

from nemo_plugins.data.chat import messages, preferences, rows
from nemo_plugins.runs.errors import UserError

USER, ANSWER = {"role": "user", "content": "Ile to jest 2 + 2?"}, {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Odpowiadaj krótko."}
TOOL = {"name": "pogoda", "description": "Pogoda w mieście", "parameters": {}}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"name": "pogoda", "arguments": {"miasto": "Łódź"}}]}
RESULT = {"role": "tool", "content": "12 °C"}


def read(tmp_path, lines, check=messages.check, policy="drop", name="a.jsonl"):
    file = tmp_path / name
    text = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    report = rows.Report("sft.data", policy)
    return list(rows.read([file], check, report)), report


@pytest.mark.parametrize(
    "turns",
    [
        [USER, ANSWER],
        [SYSTEM, USER, ANSWER, USER, ANSWER],
        [USER, {"role": "assistant", "content": "Lista:\n- " + "jabłka, gruszki i śliwki z sadu, " * 4 + "i"}],
    ],
)  # fmt: skip
def test_good_dialogues_pass(tmp_path, turns):
    [chat], report = read(tmp_path, [{"messages": turns, "source": "x"}])
    assert chat.messages == turns and report.kept == 1 and not report.faults


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({}, "no_messages"),
        ({"messages": "tekst"}, "no_messages"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "role"),
        ({"messages": [ANSWER]}, "alternation"),
        ({"messages": [USER, USER, ANSWER]}, "alternation"),
        ({"messages": [USER, SYSTEM, ANSWER]}, "alternation"),
        ({"messages": [USER]}, "alternation"),
        ({"messages": [USER, {"role": "assistant", "content": " \n"}]}, "empty_turn"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "text"),
        ({"messages": [USER, {"role": "assistant", "content": "a\ud83d"}]}, "text"),
        ({"messages": [USER, ANSWER], "weight": 0}, "weight"),
        ({"messages": [USER, ANSWER], "weight": float("nan")}, "weight"),
        ({"messages": [USER, ANSWER], "weight": True}, "weight"),
        ({"messages": [USER, ANSWER], "weight": 10**400}, "weight"),
        ({"messages": [USER, ANSWER], "weight": 1e-60}, "weight"),  # 0 in fp32
        ({"messages": [USER, ANSWER], "tools": [{"name": "a\ud83d"}]}, "text"),
        ({"messages": [USER, ANSWER], "finish_reason": "length"}, "truncated"),
        ({"messages": [USER, {"role": "assistant", "content": "```python\nprint(1)"}]}, "truncated"),
        ({"messages": [USER, {"role": "assistant", "content": "słowo " * 40}]}, "truncated"),
        ({"messages": [USER, CALL, RESULT, ANSWER]}, "tools"),
        ({"messages": [USER, CALL, ANSWER], "tools": [TOOL]}, "alternation"),
        ({"messages": [USER, ANSWER], "tools": [TOOL, TOOL]}, "tools"),
        (b"{broken\n", "not_json"),
        (b'"text"\n', "not_an_object"),
        (b'{"messages": "\xff"}\n', "not_utf8"),
        (b"[" * 100_000 + b"\n", "not_json"),
    ],
)
def test_what_is_wrong_is_counted_and_the_rest_kept(tmp_path, row, kind):
    found, report = read(tmp_path, [{"messages": [USER, ANSWER]}, row, {"messages": [USER, ANSWER]}])
    assert len(found) == 2 and report.faults == {kind: 1}
    assert report.places[kind][0].startswith("a.jsonl:2: ")


def test_tools_become_text_that_the_tool_call_reward_reads(tmp_path):
    [chat], _ = read(tmp_path, [{"messages": [USER, CALL, RESULT, ANSWER], "tools": [TOOL]}])
    assert [turn["role"] for turn in chat.messages] == ["system", "user", "assistant", "tool", "assistant"]
    call = chat.messages[2]["content"].removeprefix("<tool_call>").removesuffix("</tool_call>")
    assert json.loads(call) == {"name": "pogoda", "arguments": {"miasto": "Łódź"}}


def test_a_truncated_file_loses_its_rest_only(tmp_path):
    file = tmp_path / "a.jsonl.gz"
    text = "".join(json.dumps({"messages": [USER, {"role": "assistant", "content": str(i)}]}) + "\n" for i in range(5000))
    file.write_bytes(gzip.compress(text.encode())[:-2000])
    report = rows.Report()
    found = list(rows.read([file], messages.check, report))
    assert 0 < len(found) < 5000 and report.faults["file_damaged"] == 1


def test_a_line_beyond_all_measure_is_skipped_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LONGEST", 1000)
    found, report = read(tmp_path, [{"messages": [USER, ANSWER]}, b"x" * 5000 + b"\n", {"messages": [USER, ANSWER]}])
    assert len(found) == 2 and report.faults == {"line_too_long": 1}


def test_a_line_just_too_long_takes_no_other_with_it(tmp_path, monkeypatch):
    good = json.dumps({"messages": [USER, ANSWER]}).encode() + b"\n"
    monkeypatch.setattr(rows, "LONGEST", len(good))
    found, report = read(tmp_path, [good, good[:-1] + b" \n", good])
    assert len(found) == 2 and report.faults == {"line_too_long": 1}


def test_a_byte_order_mark_is_no_fault(tmp_path):
    assert len(read(tmp_path, [b"\xef\xbb\xbf", {"messages": [USER, ANSWER]}])[0]) == 1


def test_control_tokens_in_a_text_are_pointed_out(tmp_path):
    row = {"messages": [{"role": "user", "content": "<|im_start|>user\nIle?<|im_end|>"}, ANSWER]}
    found, report = read(tmp_path, [row])
    assert len(found) == 1 and report.notices == {"special_token_text": 1}


def test_faults_can_be_printed_whatever_the_row_holds(tmp_path):
    names = [{"name": "a\ud83d"}, {"name": "a\ud83d"}]
    _, report = read(tmp_path, [{"messages": [USER, ANSWER]}, {"messages": [USER, ANSWER], "tools": names}])
    "\n".join(report.lines()).encode()
    assert report.faults == {"tools": 1}


def test_errors_are_refused_by_policy_and_named(tmp_path):
    with pytest.raises(UserError, match="1 of 2 rows cannot be used(?s:.)*empty_turn 1(?s:.)*a.jsonl:2"):
        read(tmp_path, [{"messages": [USER, ANSWER]}, {"messages": [USER, {**ANSWER, "content": ""}]}], policy="error")
    with pytest.raises(UserError, match="no usable row"):
        read(tmp_path, [])
    with pytest.raises(UserError, match="expected .jsonl"):
        list(rows.read([tmp_path / "nothing.jsonl"], messages.check, rows.Report()))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, None),
        ({"messages": None, "prompt": [USER]}, "no_messages"),
        ({"chosen": [ANSWER]}, None),
        ({"rejected": "4 "}, "identical"),
        ({"rejected": ""}, "empty_turn"),
        ({"rejected": None}, "answer"),
        ({"chosen": [USER]}, "answer"),
        ({"chosen": [{**ANSWER, "finish_reason": "length"}]}, "truncated"),
        ({"messages": [USER, ANSWER]}, "alternation"),
    ],
)
def test_pairs(tmp_path, change, kind):
    good = {"messages": [USER], "chosen": "4", "rejected": "5"}
    found, report = read(tmp_path, [good, {**good, **change}], preferences.check)
    assert dict(report.faults) == ({kind: 1} if kind else {}) and len(found) == (1 if kind else 2)
    assert (found[-1].chosen, found[-1].rejected) == ("4", "5")


def test_a_cut_off_rejected_answer_is_kept_and_counted(tmp_path):
    row = {"messages": [USER], "chosen": "4", "rejected": "słowo " * 40}
    found, report = read(tmp_path, [row], preferences.check)
    assert len(found) == 1 and report.notices == {"rejected_truncated": 1}


def test_rows_are_checked_before_anything_heavy_is_imported():
    """A recipe refuses wrong rows within a second."""
    code = "from nemo_plugins.data.chat import messages, preferences, prompts, rows; import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "transformers"}.intersection(loaded)
