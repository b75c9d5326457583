"""The stages of a chain as processes of their own."""

import json
import os
import subprocess
import sys

import pytest

from nemo_plugins.configs import REPOSITORY
from nemo_plugins.runs import chain

pytestmark = pytest.mark.long  # its tests start processes or draw pictures


def links(stage, *overrides):
    own = ["+model=tiny_pl", "debug=fast", *overrides]
    return [
        ("first", stage.file, [*own, "run.name=chain", "run.stage=first"]),
        ("other/second", stage.file, [*own, "run.name=chain/other", "run.stage=second"]),
    ]


def test_stages_run_in_their_folders_and_finished_ones_are_not_redone(stage, monkeypatch, capfd):
    monkeypatch.chdir(stage.cwd)
    folder = stage.cwd / "runs" / "chain"
    chain.run(folder, links(stage))
    said = capfd.readouterr().out
    assert said.count("rank 0") == 2
    assert "loss_last 0.5000" in said.split("took")[-1]
    written = [(folder / name / "summary.json").stat().st_mtime_ns for name in ("first", "other/second")]
    chain.run(folder, links(stage))
    said = capfd.readouterr().out
    assert said.count("nothing to do") == 2 and "rank 0" not in said
    assert written == [(folder / name / "summary.json").stat().st_mtime_ns for name in ("first", "other/second")]
    assert json.loads((folder / "other" / "second" / "summary.json").read_text())["stage"] == "second"


@pytest.mark.parametrize(("act", "code"), [("crash", 1), ("user", 2), ("stop", 75)])
def test_the_first_stage_that_fails_ends_the_chain_with_its_exit_code(stage, monkeypatch, capfd, act, code):
    monkeypatch.chdir(stage.cwd)
    monkeypatch.setenv("ACT", act)
    with pytest.raises(SystemExit) as end:
        chain.run(stage.cwd / "runs" / "chain", links(stage))
    assert end.value.code == code
    assert not (stage.cwd / "runs" / "chain" / "other").exists()
    assert "first ended with exit code" in capfd.readouterr().err


def test_of_several_that_lack_the_teacher_one_imports_it_and_the_others_wait(tmp_path):
    """As the elements of a job array, which start at once."""
    script = """
import sys, time
from pathlib import Path
from nemo_plugins.runs import chain
from nemo_plugins.runs.prepare import compose

def process(command):
    folder = Path("runs/mine/convert-import")
    folder.mkdir()  # a second import would fail here
    time.sleep(1)
    (folder / "summary.json").write_text("{}")
    return 0

chain.process = process
chain.import_teacher(compose(["+model=tiny_pl", "run.name=mine/candidate"]))
"""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", script]
    started = [
        subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert sum("no teacher in this run yet" in out for out, _ in said) == 1
