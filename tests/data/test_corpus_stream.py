"""Thirty thousand short documents through recipes/data.py: memory does not grow with them, and kills change no byte."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import corpora
import pytest

pytestmark = pytest.mark.long
DOCUMENTS, FEW, A_FILE = 30_000, 5_000, 15_000
COPIES = 100  # each so many-th document is the one before it
PLAIN = ("corpus.language_minimum=null", "corpus.quality.model=null", "corpus.tokens=false", "corpus.workers=1")
GROWTH = 7 << 20  # bytes that 25,000 more documents may take; held as records they would take about 13 MB


def make(folder: Path, count: int) -> None:
    """Files of 5 to 12 words a document, in an order by chance."""
    words = sorted({word for text in corpora.real(600) for word in text.split()})
    rng, last = random.Random(count), ""
    folder.mkdir()
    for start in range(0, count, A_FILE):
        with open(folder / f"{start // A_FILE}.jsonl", "w", encoding="utf-8") as file:
            for number in range(start, min(count, start + A_FILE)):
                last = last if number % COPIES == COPIES - 1 else " ".join(rng.choices(words, k=rng.randint(5, 12)))
                file.write(json.dumps({"text": last}, ensure_ascii=False) + "\n")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    (folder / "items.jsonl").write_text("".join(json.dumps({"question": item}) + "\n" for item in corpora.ITEMS))
    for name, count in (("many", DOCUMENTS), ("few", FEW)):
        make(folder / name, count)
    return folder


@pytest.fixture(scope="module")
def runs(base) -> dict[str, Path]:
    """Finished runs that nobody killed."""
    for name in ("few", "many"):
        done = corpora.clean(base / name, f"run.name={name}", *PLAIN)
        assert done.returncode == 0, done.stdout + done.stderr
    return {name: base / "runs" / name / "data" for name in ("few", "many")}


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def test_memory_does_not_grow_with_the_documents(runs):
    few, many = (summary(runs[name]) for name in ("few", "many"))
    assert (few["counts"]["read"]["in"], many["counts"]["read"]["in"]) == (FEW, DOCUMENTS)
    assert many["counts"]["duplicates"]["exact"] == DOCUMENTS // COPIES
    assert many["counts"]["divide"]["out"] > 0.9 * DOCUMENTS
    peaks = [one["peak_memory_bytes"] for one in (few, many)]
    print(f"{FEW:,} documents: {peaks[0] / 2**20:,.0f} MiB at most, {DOCUMENTS:,}: {peaks[1] / 2**20:,.0f} MiB")
    assert peaks[1] - peaks[0] < GROWTH, peaks


@pytest.mark.slow  # test_corpus_recipe.py kills a smaller corpus in CI
def test_killed_in_the_middle_it_goes_on_with_what_is_missing_and_writes_the_same_bytes(base, runs):
    command = corpora.command(base / "many", "run.name=killed", *PLAIN)
    folder = base / "runs" / "killed" / "data"
    first, written = folder / "work" / "read" / "00000.jsonl.zst", []
    for marker in ("read/completions/00003", "duplicates_filter/completions/00002"):
        process = subprocess.Popen(
            command, cwd=base, env=corpora.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 600
        while not (folder / "logs" / marker).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        written.append(first.stat().st_mtime_ns)
        assert not (folder / "logs" / Path(marker).parent / "00008").exists()  # tasks were left to do
    assert written[0] == written[1]  # what was done is not done again
    done = corpora.clean(base / "many", "run.name=killed", *PLAIN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert corpora.written(folder) == corpora.written(runs["many"])
    assert summary(folder)["counts"] == summary(runs["many"])["counts"]
