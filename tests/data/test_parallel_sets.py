"""Chat sets made by several processes are those that one makes, whatever the file and wherever they were killed."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard
from transformers import AutoTokenizer

from nemo_plugins.data.chat import messages, packing, rows, sets
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.planning import chat_sets_plan

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "assets" / "chat_samples"
PACKED = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


def text(copies: int) -> bytes:
    """Dialogues with faults of all sorts between them, blank lines, and no newline at the end."""
    good = gzip.decompress((SAMPLES / "sft_heldout.jsonl.gz").read_bytes()).splitlines()
    bad = [b"", b"{", b'{"messages": []}', b"\xff", b" \t", json.dumps({"messages": [{"role": "tool"}]}).encode()]
    lines = [line for place, line in enumerate(good) for line in ([line, bad[place % len(bad)]] if place % 7 == 0 else [line])]
    return b"\n".join(lines * copies)


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("size", [1000, 20_000, 1 << 20])
def test_pieces_hold_each_line_once_under_its_number(tmp_path, ending, size):
    path = tmp_path / f"chats.jsonl{ending}"
    path.write_bytes(PACKED[ending](text(2)))
    pieces = rows.pieces(path, size)
    whole, parts = rows.Report(), rows.Report()
    wanted = [chat.where for chat in rows.read([path], messages.check, whole)]
    found = []
    for piece in pieces:
        report = rows.Report()
        found += [chat.where for chat in rows.read_piece(piece, messages.check, report)]
        parts.add(report.summary())
    assert found == wanted and parts == whole and whole.faults["not_json"] > 10
    assert len(pieces) == 1 if size == 1 << 20 else len(pieces) > 3


def test_a_damaged_file_is_counted_once(tmp_path):
    path = tmp_path / "chats.jsonl.gz"
    packed = gzip.compress(text(2))
    path.write_bytes(packed[: len(packed) // 2])
    whole, parts = rows.Report(), rows.Report()
    for _ in rows.read([path], messages.check, whole):
        pass
    for piece in rows.pieces(path, 10_000):
        for _ in rows.read_piece(piece, messages.check, parts):
            pass
    assert parts == whole and parts.faults["file_damaged"] == 1


def files(folder: Path) -> dict[str, bytes | dict]:
    """What a set's folder holds; reports as what they say, whatever the order."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes() for name, path in found.items()}


@pytest.mark.long
def test_what_was_killed_goes_on_and_is_what_one_process_makes(tmp_path):
    """`recipes/data.py corpus.task=chats`, with evaluation items, killed with all its processes once a part is there."""
    chats, pairs, items = tmp_path / "chats.jsonl", SAMPLES / "preferences_heldout.jsonl.gz", tmp_path / "items.jsonl"
    chats.write_bytes(text(24))
    asked = json.loads(gzip.decompress((SAMPLES / "sft_heldout.jsonl.gz").read_bytes()).splitlines()[5])
    items.write_text(json.dumps({"question": asked["messages"][0]["content"]}) + "\n")
    heldout = SAMPLES / "sft_heldout.jsonl.gz"
    command = [
        sys.executable, REPOSITORY / "recipes" / "data.py", "+model=tiny_pl", "corpus.task=chats", "corpus.part_mib=1",
        "corpus.workers=2", "corpus.keep_work=true", f"corpus.decontamination.items=[{items}]", f"sft.data=[{chats}]",
        f"sft.heldout=[{heldout}]", f"dpo.data=[{pairs}]", f"dpo.heldout=[{pairs}]", "sft.seq_length=128", "dpo.seq_length=128",
        f"run.root={tmp_path / 'runs'}",
    ]  # fmt: skip
    begun = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    work = tmp_path / "runs" / "tiny_pl" / "chats" / "work"
    while not (parts := list(work.glob("*/parts/?????"))):
        assert begun.poll() is None, begun.stderr.read().decode()
        time.sleep(0.05)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    kept = {part: part.stat().st_mtime_ns for part in parts}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {part: part.stat().st_mtime_ns for part in parts} == kept
    assert len(list(work.glob("*/parts/?????"))) > len(chat_sets_plan.STAGES) * len(sets.SETS)

    summary = json.loads((tmp_path / "runs" / "tiny_pl" / "chats" / "summary.json").read_text())
    folders = {name: tmp_path / "runs" / "tiny_pl" / "chats" / path for name, path in summary["outputs"].items()}
    assert summary["rows"]["sft.data"]["faults"]["evaluation"] >= 24
    from nemo_plugins.configs.schema import DecontaminationConfig
    from nemo_plugins.data.chat.evaluation_items import EvaluationItems

    looked_for = EvaluationItems((items,), DecontaminationConfig(ngram=13, common=10))
    template = ChatTemplate(AutoTokenizer.from_pretrained(REPOSITORY / "assets" / "tiny_pl"))
    common = {"policy": "drop", "seq_length": 128}
    for name, path, held in (("sft_data", chats, looked_for), ("sft_heldout", heldout, None)):
        alone = sets.dialogues([path], template, tmp_path / "alone", key=name, learn="every", items=held, **common)
        packing.stored(alone, 128, 1234)
        assert files(folders[name]) == files(alone.folder)
    alone = sets.pairs([pairs], template, tmp_path / "alone", key="dpo.data", items=looked_for, **common)
    assert files(folders["dpo_data"]) == files(alone.folder)
