"""recipes/data.py from end to end: what is dropped and why, what is left, and that a kill changes no byte of it."""

import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import corpora
import pytest

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data.corpus import stores
from nemo_plugins.data.corpus.contamination import Contamination
from nemo_plugins.data.corpus.split import HeldoutGuard

pytestmark = pytest.mark.long  # its tests start processes or draw pictures


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def expected(base) -> dict[str, int]:
    return corpora.build(base / "raw")


@pytest.fixture(scope="module")
def run(base, expected) -> Path:
    """A finished run, in one process."""
    done = corpora.clean(base / "raw", "run.name=whole", "corpus.workers=1")
    assert done.returncode == 0, done.stdout + done.stderr
    return base / "runs" / "whole" / "data"


def records(run: Path, side: str) -> list[dict]:
    return [record for file in sorted((run / side).glob("*.jsonl.zst")) for record in stores.records(file)]


def test_every_reason_is_counted_and_nothing_is_lost(run, expected):
    counts = json.loads((run / "summary.json").read_text())["counts"]
    for stage in counts.values():
        assert stage["in"] == sum(count for name, count in stage.items() if name != "in")
    dropped = {reason: count for stage in counts.values() for reason, count in stage.items()}
    for reason in expected.keys() - {"near", "quality"}:
        assert dropped[reason] == expected[reason], reason
    assert expected["near"] - 2 <= dropped["near"] <= expected["near"] + 2  # one or the other is not good enough to come so far
    assert expected["quality"] <= dropped["quality"] < 20  # and some that are menus more than text
    assert 9000 < dropped["no_text"] <= 10_000  # what the truncated file held before its end
    sizes = [stage["out"] for stage in counts.values()]
    assert [stage["in"] for stage in list(counts.values())[1:]] == sizes[:-1]
    assert len(records(run, "train")) == sizes[-1] and len(records(run, "heldout")) == dropped["heldout"]


def test_what_is_left_has_no_evaluation_item_no_personal_data_and_no_neighbour_of_the_heldout(run):
    train, heldout = ([record["text"] for record in records(run, side)] for side in ("train", "heldout"))
    assert len(heldout) > 3
    contamination = Contamination(corpora.ITEMS)
    assert not any(contamination.found(text) for text in train + heldout)
    together = "\n".join(train + heldout)
    assert "44051401359" not in together and "anna@example.pl" not in together and "1090 1014" not in together
    assert "<PESEL>" in together and "<EMAIL>" in together and "<IBAN>" in together
    guard = HeldoutGuard(heldout)
    assert not any(guard.near(text) for text in train)
    assert corpora.ENGLISH not in together and "noclegi" not in together


def test_dropped_documents_can_be_read_and_the_page_shows_them(run):
    dropped = [json.loads(line) for line in (run / "dropped.jsonl").read_text().splitlines()]
    by_reason = {one["reason"]: one for one in dropped}
    assert {"language", "quality", "exact", "near", "evaluation", "broken_json", "damaged_file"} <= set(by_reason)
    assert by_reason["language"]["text"].startswith("The quick brown fox") and "en," in by_reason["language"]["detail"]
    assert by_reason["damaged_file"]["id"].startswith("z.jsonl.gz")
    assert by_reason["evaluation"]["detail"] in corpora.ITEMS
    page = (run / "report.html").read_text()
    for words in ("came in", "The quick brown fox", "z.jsonl.gz", "PESEL".lower(), "data:image/png"):
        assert words in page
    assert {file.name for file in (run / "plots").glob("*.png")} == {
        "lengths.png",
        "language.png",
        "quality.png",
        "duplicates.png",
    }


def test_the_tokens_are_those_of_the_text(run):
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    sequences, documents = struct.unpack("<QQ", (run / "tokens" / "train.idx").read_bytes()[18:34])  # indexed_dataset.py
    assert documents - 1 == sequences == metrics["train_documents"] == len(records(run, "train"))
    assert (run / "tokens" / "train.bin").stat().st_size // 2 == metrics["train_tokens"]  # uint16


def test_killed_again_and_again_it_goes_on_and_writes_the_same_bytes(base, run):
    name = ("run.name=killed", "corpus.workers=2", "corpus.keep_work=true", "corpus.tokens=false")
    folder = base / "runs" / "killed" / "data"
    for marker in ("read/completions/00000", "duplicates_pairs/completions", "duplicates_filter/completions"):
        process = subprocess.Popen(
            corpora.command(base / "raw", *name), cwd=base, env=corpora.environment(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 600
        while not (folder / "logs" / marker).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)  # the parent alone: its processes have to end by themselves
        process.wait()
    assert not (folder / "summary.json").exists()
    partial = folder / "train" / ".00000.jsonl.zst.partial"  # what a kill leaves in the middle of a file
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(b"half")
    done = corpora.clean(base / "raw", *name)
    assert done.returncode == 0, done.stdout + done.stderr
    partial.unlink(missing_ok=True)
    assert corpora.written(folder) == {name: content for name, content in corpora.written(run).items() if "tokens" not in name}
    counts = [json.loads((one / "summary.json").read_text())["counts"] for one in (folder, run)]
    assert counts[0] == counts[1]


def test_a_finished_one_is_not_done_again_and_another_is_refused(base, run):
    again = corpora.clean(base / "raw", "run.name=whole", "corpus.workers=2")
    assert again.returncode == 0 and "nothing to do" in again.stdout
    other = corpora.clean(base / "raw", "run.name=whole", "corpus.heldout_share=0.06")
    assert other.returncode == 2 and "corpus.heldout_share: 0.05 there, 0.06 asked for" in other.stderr


PLAIN = ("corpus.duplicates.remove=false", "corpus.quality.model=null", "corpus.workers=1")  # what takes the time left out


def test_without_a_held_out_document_the_next_command_is_one_that_runs(base, expected, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # the command in one line
    done = corpora.clean(base / "raw", "run.name=none", "corpus.heldout_share=0", *PLAIN)
    assert done.returncode == 0 and "no document is held out" in done.stdout + done.stderr, done.stdout + done.stderr
    _, recipe, *words = shlex.split(re.search(r"next +(python .*?) *│", done.stdout + done.stderr)[1])
    assert any(word.startswith("data.train=[") for word in words) and not any("data.heldout" in word for word in words)
    words = [sys.executable, str(REPOSITORY / recipe), *words, "dry_run=true"]
    planned = subprocess.run(words, cwd=base, env=corpora.environment(), capture_output=True, text=True, timeout=300)
    assert planned.returncode == 0, planned.stdout + planned.stderr


def test_parts_of_large_text_are_gone_once_they_are_joined(base, expected):
    code = (
        "import runpy, sys\n"
        "from nemo_plugins.data import parallel_tokens\n"
        "if __name__ == '__main__':\n"
        "    parallel_tokens.WORTH = 0\n"
        "    runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    )
    (base / "large.py").write_text(code)
    words = [sys.executable, str(base / "large.py"), *corpora.command(base / "raw", "run.name=large", *PLAIN)[1:]]
    environment = corpora.environment() | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, cwd=base, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = base / "runs" / "large" / "data"
    assert (folder / "tokens" / "train.bin").stat().st_size and (folder / "tokens" / "heldout.bin").stat().st_size
    assert {path.name for path in (folder / "work").iterdir()} == {"counts", "items", "parts.json"}


def test_items_of_a_data_set_without_the_fields_are_told_before_the_first_stage(base, expected):
    (base / "zbior").mkdir()
    (base / "zbior" / "train.jsonl").write_text('{"question": "Kto to napisał?"}\n')
    items = ("corpus.decontamination.items=['hf:zbior']", "corpus.decontamination.fields=[pytanie]")
    done = corpora.clean(base / "raw", "run.name=fields", *PLAIN, *items)
    assert done.returncode == 2 and "no text in pytanie" in done.stderr.replace("\n", " "), done.stdout + done.stderr
    assert not (base / "runs" / "fields" / "data" / "logs" / "read").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["corpus.sources=[nothing.jsonl]"], "corpus.sources: no file or folder nothing.jsonl"),
        (["corpus.sources=[]"], "corpus.sources names no documents"),
        (["corpus.heldout_share=2"], "corpus.heldout_share=2: expected a number from 0 to 1"),
        (["corpus.duplicates.bucket=3"], "did you mean corpus.duplicates.buckets?"),
        (["corpus.quality.model=nowhere"], "no classifier in nowhere"),
        (["corpus.decontamination.items=[no.jsonl]"], "corpus.decontamination.items: no file no.jsonl"),
        (["language.identifiers=[emial]"], "emial"),
        (["corpus.decontamination.fields=[pytanie]", "corpus.decontamination.items=[items.jsonl]"], "items.jsonl"),
        (["corpus.engine=slurm"], "corpus.engine=slurm without corpus.slurm.partition"),
        (["corpus.engine=slurm", "corpus.slurm.partition='a b'"], "cannot go into a job script"),
        (["corpus.task=evaluate_quality", "corpus.quality.model=null"], "without corpus.quality.model"),
        (["language=cs", "corpus.quality.model=assets/quality_pl"], "is of pl, the text is cs"),
    ],
)
def test_a_mistake_is_one_message(base, expected, arguments, says):
    done = corpora.clean(base / "raw", "run.name=mistake", *arguments)
    assert done.returncode == 2 and says in done.stderr.replace("\n", " "), done.stderr
    assert "Traceback" not in done.stderr and not (base / "runs" / "mistake").exists()  # told before anything is read
