"""`… | head`: a reader that leaves ends neither the command nor the work with a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long  # its tests start processes

REPOSITORY = Path(__file__).resolve().parents[2]


def closed(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess:
    """A command whose standard output nobody reads from the first byte on."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120
        )
    finally:
        os.close(writing)


@pytest.mark.parametrize("recipe", ["prune", "doctor"])  # with a folder and without
def test_help(tmp_path, recipe):
    done = closed([str(REPOSITORY / "recipes" / f"{recipe}.py"), "--help"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["dry_run=true"], ["--cfg", "job"], []])
def test_a_plan_a_configuration_and_what_a_stage_says(tmp_path, words):
    done = closed([str(REPOSITORY / "recipes" / "plan.py"), "+model=tiny_pl", *words], tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Broken" not in done.stderr, done.stderr
    assert (tmp_path / "runs" / "tiny_pl" / "plan" / "summary.json").is_file() is (not words)  # the work goes on
