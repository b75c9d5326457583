"""`platform.devices=2` in a plain call: our own workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_plugins.configs.schema import PlatformConfig
from nemo_plugins.runs import workers

pytestmark = pytest.mark.long  # its tests start processes or draw pictures


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


def test_workers_end_with_a_launcher_that_is_killed(tmp_path):
    """Nobody is left to end them: the kernel does."""
    script = tmp_path / "stage.py"
    script.write_text(
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})\n"
        "from nemo_plugins.configs.schema import PlatformConfig\n"
        "from nemo_plugins.runs import workers\n"
        "if workers.world() is None:\n"
        "    sys.exit(workers.start(PlatformConfig(devices=2), sys.argv))\n"
        f"open({str(tmp_path)!r} + '/pid-' + os.environ['RANK'], 'w').write(str(os.getpid()))\n"
        "time.sleep(120)\n"
    )
    launcher = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    pids = [tmp_path / f"pid-{rank}" for rank in (0, 1)]
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in pids):
        assert launcher.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    launcher.kill()
    launcher.wait()
    while any(_lives(int(path.read_text())) for path in pids):
        assert time.monotonic() < deadline, "a worker outlived its launcher"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False
