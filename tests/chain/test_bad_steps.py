"""A loss that is not a number never reaches the weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import warm_start
from laptop import ok
from test_interruption import weights

pytestmark = pytest.mark.nemo

MICRO_BATCHES = 2  # of a step


def with_nan(laptop, step: int, *overrides: str) -> subprocess.CompletedProcess:
    """The distillation whose first micro-batch of `step` has a loss that is not a number."""
    call = (step - 1) * MICRO_BATCHES + 1
    driver = [sys.executable, str(Path(__file__).with_name("nan_loss.py")), str(call)]
    student = f"student.path={laptop.run / 'prune' / 'checkpoint'}"
    return warm_start.run([*driver, *laptop.command("distill", student, *overrides)[2:]], nemo=True)


def test_stop_and_go_on(laptop):
    name = "run.name=tiny_pl-laptop/nan"
    stopped = with_nan(laptop, 4, name)
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr, stopped.stderr[-3000:]
    assert "step 4, samples 24 to 31 of the training order: its loss is nan" in stopped.stderr
    ok(laptop.recipe("distill", name, f"student.path={laptop.run / 'prune' / 'checkpoint'}"))
    folders = (laptop.run / "distill", laptop.run / "nan" / "distill")
    straight, resumed = (weights(folder / "steps" / "step=0000006") for folder in folders)
    assert all(straight[key].equal(resumed[key]) for key in straight)


def test_skip(laptop):
    often = ("distill.checkpoint_every=1", "distill.keep_checkpoints=10", "distill.bad_step=skip")
    ok(with_nan(laptop, 4, "run.name=tiny_pl-laptop/skip", *often))
    folder = laptop.run / "skip" / "distill"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    [skipped] = [line for line in lines if line.get("skipped")]
    assert skipped["step"] == 4 and skipped["loss"] is None
    before, after, later = (weights(folder / "steps" / f"step={step:07d}") for step in (3, 4, 5))
    of_model = [key for key in before if "optimizer" not in key]
    assert of_model and all(before[key].equal(after[key]) for key in of_model)
    assert not all(after[key].equal(later[key]) for key in of_model)
    losses = laptop.losses("skip/distill")
    assert losses[:3] == pytest.approx(laptop.losses("distill")[:3]) and all(loss is not None for loss in losses[4:])
    assert "skipped" in (folder / "report.html").read_text()
