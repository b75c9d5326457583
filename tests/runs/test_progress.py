"""Where the output is no terminal, a stage says how far it is, also while its first item takes its time."""

import time

import pytest

from nemo_plugins.runs import output
from nemo_plugins.runs.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("nemo_plugins.runs.progress.time.monotonic", lambda: now[0])
    return now


def test_a_line_has_what_is_at_work_what_is_done_and_the_time_left(clock):
    progress = Progress("eval", 1560)
    progress.now("teacher: capitals")
    assert progress.line() == "eval: teacher: capitals, 0 of 1,560 items"
    clock[0] += 60
    progress.advance(100)
    progress.part(20.0)
    assert progress.line() == "eval: teacher: capitals, 120 of 1,560 items, 12 min 0 s left"


def test_what_was_done_before_counts_neither_as_done_nor_as_to_do(clock):
    progress = Progress("eval", 300)
    progress.skip(100)
    clock[0] += 10
    progress.advance(100)
    assert progress.line() == "eval: 100 of 200 items, 10 s left"


def test_a_part_with_a_total_is_counted_from_its_beginning(clock):
    progress = Progress("prune", unit="batches")
    assert progress.line() == "prune: starting"
    progress.now("importance", 8)
    progress.advance(8)
    clock[0] += 5
    progress.now("held-out loss of the student", 4)
    clock[0] += 3
    progress.advance()
    assert progress.line() == "prune: held-out loss of the student, 1 of 4 batches, 9.0 s left"


def test_lines_come_while_nothing_is_done_yet_and_end_with_the_stage(monkeypatch):
    said = []
    monkeypatch.setattr(output, "error", said.append)
    progress = Progress("prune", 3, interval=0.001)
    progress.now("loading the teacher")
    with progress:
        for _ in range(10_000):
            if len(said) > 1:
                break
            time.sleep(0.001)
    assert said[:2] == ["prune: loading the teacher, 0 of 3 items"] * 2
    time.sleep(0.02)
    ended = len(said)
    time.sleep(0.02)
    assert len(said) == ended
