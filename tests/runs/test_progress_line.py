"""Progress of a chain by numbers that can be reckoned by hand: a clock of the test's own, stages of known weights."""

import dataclasses
import io
import json
import re

import pytest
from rich.console import Console

from nemo_plugins.runs import output, progress_line, stages
from nemo_plugins.runs.progress_line import PRIOR, ProgressLine


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress_line.time, "monotonic", lambda: now[0])
    seconds = {"convert": 10, "distill": 100, "eval": 50}
    guesses = [dataclasses.replace(stages.by_name()[name], seconds=guess) for name, guess in seconds.items()]
    monkeypatch.setattr(stages, "STAGES", guesses)
    return now


STAGES = [("convert-import", "convert"), ("distill", "distill"), ("eval", "eval")]


def finish(folder, name):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "summary.json").write_text("{}")


def test_share_and_time_left_follow_the_stages_and_their_pace(tmp_path, clock, capsys):
    with ProgressLine(tmp_path, STAGES) as line:
        assert line.share() == 0.0 and line.seconds_left() == 160
        line.begin("convert-import")
        clock[0] += 20  # twice as long as the table has it
        line.end()
        pace = (20 + PRIOR) / (10 + PRIOR)
        assert line.share() == pytest.approx(10 / 160)
        line.begin("distill")
        assert line.seconds_left() == pytest.approx(150 * pace)
        (tmp_path / "distill").mkdir()
        (tmp_path / "distill" / "config.yaml").write_text("distill: {max_steps: 40}")
        (tmp_path / "distill" / "metrics.jsonl").write_text('{"step": 10}\n{"step": 20}\n{"st')
        assert line.share() == pytest.approx((10 + 50) / 160)
        assert line.seconds_left() == pytest.approx(100 * pace)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "[1/3] convert-import",
        f"[1/3] convert-import: 20 s; 6 % done, about {output.duration(150 * pace)} left",
        "[2/3] distill",
    ]


def test_a_stage_that_tells_no_steps_is_never_done_before_it_ends(tmp_path, clock):
    line = ProgressLine(tmp_path, STAGES)
    line.begin("eval")
    clock[0] += 25
    assert line.share() == pytest.approx(25 / 160)
    clock[0] += 10_000
    assert line.share() == pytest.approx(0.95 * 50 / 160) and line.seconds_left() > 0


def test_what_was_finished_before_counts_neither_as_work_nor_as_pace(tmp_path, clock, capsys):
    finish(tmp_path, "convert-import")
    finish(tmp_path, "distill")
    with ProgressLine(tmp_path, STAGES) as line:
        line.begin("convert-import")
        clock[0] += 1
        line.end()
        assert line.share() == 0.0
        line.begin("eval")
        clock[0] += 30
        line.end()
        assert line.share() == 1.0
    assert capsys.readouterr().out.splitlines()[-1] == "[3/3] eval: 30 s; 100 % done"


def test_on_a_terminal_the_line_of_a_finished_chain_is_full(tmp_path, clock, monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(output, "console", lambda: console)
    with ProgressLine(tmp_path, STAGES[:1]) as line:
        line.begin("convert-import")
        clock[0] += 3
        line.end()
    last = [text for text in re.split(r"[\r\n]", screen.getvalue()) if "━" in text][-1]
    assert "100%" in last and "left" not in last


def test_on_a_terminal_it_is_one_line_and_a_stage_is_heard_where_it_fails(tmp_path, clock, monkeypatch, capsys):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(output, "console", lambda: console)
    with ProgressLine(tmp_path, STAGES) as line:
        line.begin("convert-import")
        line.streams["stdout"].write("panel of the first\n")
        line.streams["stdout"].flush()
        line.end()
        line.begin("distill")
        line.streams["stderr"].write("distill.lr: expected a number\n")
        line.streams["stderr"].flush()
        line.fail("distill")
    shown = screen.getvalue()
    assert "panel of the first" not in shown and re.search(r"\[2/3\] distill .* 6%", shown) and "left" in shown
    assert capsys.readouterr().err == "distill.lr: expected a number\n"
    assert (tmp_path / "chain.log").read_text() == "panel of the first\ndistill.lr: expected a number\n"
    assert json.dumps("[1/3] convert-import: ")[1:-1] in shown
