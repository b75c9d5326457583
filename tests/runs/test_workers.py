"""`platform.devices=2` in a plain call: our own workers."""

import os
import signal
import subprocess
import time

import pytest

from nemo_plugins.configs import PlatformConfig
from nemo_plugins.runs import workers


def test_a_plain_call_starts_its_workers_and_shows_rank_0(stage):
    done = stage("platform.devices=2")
    assert done.returncode == 0, done.stderr
    assert "rank 0 of 2" in done.stdout and "rank 1" not in done.stdout
    assert len((stage.folder / "metrics.jsonl").read_text().splitlines()) == 4  # one of them writes


def test_force_is_done_once(stage):
    stage()
    assert stage("platform.devices=2", "force=true").returncode == 0
    assert sorted(folder.name for folder in stage.folder.parent.iterdir()) == ["pretrain", "pretrain.old-1"]


def test_the_first_failing_workers_last_words_and_exit_code_come_through(stage):
    failed = stage("platform.devices=2", act="crash1")
    assert failed.returncode == 1
    assert "worker 1 of 2 said last" in failed.stderr and "boom" in failed.stderr


def test_a_user_error_in_the_workers_is_2_and_said_once(stage):
    refused = stage("platform.devices=2", act="user")
    assert refused.returncode == 2
    assert refused.stderr.count("data.train: bad") == 1


def test_sigterm_reaches_the_workers(stage):
    command = stage.command("platform.devices=2")
    process = subprocess.Popen(command, cwd=stage.cwd, env=stage.env("wait"), stdout=subprocess.PIPE, text=True)
    while not all((stage.folder / f"waiting{rank}").exists() for rank in (0, 1)):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75


def test_inside_a_job_no_workers_are_started(stage):
    done = stage("platform.devices=2", RANK="0", WORLD_SIZE="2", MASTER_PORT="none")
    assert done.returncode == 0 and "rank 0 of 2" in done.stdout


@pytest.mark.parametrize(
    ("env", "world"),
    [({}, None), ({"WORLD_SIZE": "4"}, 4), ({"SLURM_NTASKS": "16"}, 16), ({"SLURM_NTASKS": "1"}, None)],
)
def test_the_world_is_read_from_the_environment(monkeypatch, env, world):
    for key in [key for key in os.environ if key.startswith(("WORLD_SIZE", "SLURM_"))]:
        monkeypatch.delenv(key)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    assert workers.world() == world
    assert workers.needed(PlatformConfig(devices=2)) == (world is None)
    assert not workers.needed(PlatformConfig(devices=1))
