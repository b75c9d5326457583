"""A finished report is made again where the run has more to show, and left alone where it has not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

REPOSITORY = Path(__file__).resolve().parents[2]


def stage(run: Path, name: str, loss: float) -> None:
    (run / name).mkdir(parents=True, exist_ok=True)
    summary = {"started": "2026-01-01T00:00:00+00:00", "command": f"python recipes/{name}.py", "inputs": {}, "outputs": {}}
    (run / name / "summary.json").write_text(json.dumps({**summary, "metrics": {"loss_before": loss, "loss_after": loss}}))


def test_a_report_follows_the_stages_of_its_run(tmp_path):
    command = [sys.executable, str(REPOSITORY / "recipes" / "report.py"), "+model=tiny_pl", f"run.root={tmp_path}"]

    def report() -> str:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run = tmp_path / "tiny_pl"
    page = run / "report" / "report.html"
    stage(run, "prune", 3.125)
    report()
    assert "3.1250" in page.read_text() and "nothing to do" in report()
    stage(run, "prune", 3.25)
    assert "nothing to do" not in report() and "3.2500" in page.read_text() and "3.1250" not in page.read_text()
    stage(run, "sft", 1.0)
    refused = subprocess.run([*command, "report.generations=3"], capture_output=True, text=True)
    assert refused.returncode == 2 and "report.generations" in refused.stderr and (page.parent / "summary.json").is_file()
    report()
    assert "recipes/sft.py" in page.read_text() and "nothing to do" in report()
    (run / "sft").rename(run / "sft.old-1")
    assert "nothing to do" not in report() and "recipes/sft.py" not in page.read_text()
