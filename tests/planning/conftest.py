"""What the plans' tests share."""

import pytest


@pytest.fixture
def plain_call(monkeypatch, tmp_path):
    """A command that nobody's launcher has started, in a folder where nothing is."""
    for key in ("WORLD_SIZE", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.chdir(tmp_path)
