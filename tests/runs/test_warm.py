"""Processes that are forked from a server begin as fresh ones do. The server here imports nothing of NeMo."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_plugins.configs import REPOSITORY
from nemo_plugins.runs import chain, warm

pytestmark = pytest.mark.long  # its tests start processes

# what a process can tell of how it was started, as one line of JSON
ASK = """
import atexit, json, multiprocessing, os, signal, sys
def tell(value):
    return value
if __name__ == "__main__":
    import nemo_plugins
    atexit.register(print, "goodbye")
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # it imports this file again
        spawned = pool.apply(tell, ["spawned"])
    print(json.dumps({
        "argv": sys.argv, "path": sys.path, "cwd": os.getcwd(), "name": __name__, "spec": str(__spec__), "spawned": spawned,
        "session": os.getsid(0) == os.getpid(), "environment": dict(sorted(os.environ.items())), "code": nemo_plugins.__file__,
        "input": sys.stdin.read(), "buffered": [sys.stdout.line_buffering, sys.stderr.line_buffering],
        "start method": multiprocessing.get_start_method(),
        "signals": [str(signal.getsignal(number)) for number in range(1, 32)],
    }, indent=1))
    print("a message", file=sys.stderr)
    sys.exit(int(sys.argv[1]))
"""
WAIT = """
import signal, sys, time
from pathlib import Path
def stop(number, frame):
    Path("signal").write_text(signal.Signals(number).name)
    sys.exit(75)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, stop)
import os
Path("pid").write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.fixture(scope="module")
def server():
    """One that imports nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(warm.ADDRESS, raising=False)
        patch.setattr(warm, "PRELOAD", "json")
        patch.setenv("BEFORE", "1")
        with warm.Server(free=("ACT",)) as made:
            yield made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ask.py").write_text(ASK)
    (tmp_path / "wait.py").write_text(WAIT)
    (tmp_path / "input.txt").write_text("typed")
    return tmp_path


def until(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.01)
    return path.read_text()


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while warm._is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not warm._is_alive(pid)


def said(folder: Path, start) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ask.py."""
    with (folder / "input.txt").open() as typed, (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = start([sys.executable, "ask.py", "3", "a=ą b"], stdin=typed, stdout=out, stderr=err)
        code = process.wait(timeout=60)
    return code, (folder / "out").read_text(), (folder / "err").read_text()


def test_a_forked_process_is_what_a_fresh_one_is(server, folder):
    env = {**os.environ, "ACT": "new"}
    del env["PYTEST_CURRENT_TEST"]
    forked = said(folder, lambda command, **streams: warm.start(command, env=env, **streams))
    fresh = said(folder, lambda command, **streams: subprocess.Popen(command, env=env, start_new_session=True, **streams))
    assert forked[1].splitlines() == fresh[1].splitlines()
    assert forked == fresh
    assert fresh[0] == 3 and "goodbye" in fresh[1] and "a message" in fresh[2]


def test_a_module_is_run_as_python_runs_it(server, folder):
    (folder / "mine.py").write_text("import sys; print(sys.argv[1:], __name__, sys.path[0])")
    outs = []
    for start in (warm.start, subprocess.Popen):
        with (folder / "out").open("w") as out:
            assert start([sys.executable, "-m", "mine", "word"], stdout=out).wait() == 0
        outs.append((folder / "out").read_text())
    assert outs[0] == outs[1] == f"['word'] __main__ {folder}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_reaches_the_process(server, folder, number):
    process = warm.start([sys.executable, "wait.py"])
    assert int(until(folder / "pid")) == process.pid and process.poll() is None
    process.send_signal(number)
    assert process.wait(timeout=30) == 75 and process.poll() == 75
    assert (folder / "signal").read_text() == signal.Signals(number).name


def test_one_that_is_killed_ends_with_the_signal_and_the_next_one_starts(server, folder):
    process = warm.start([sys.executable, "wait.py"])
    until(folder / "pid")
    process.kill()
    assert process.wait(timeout=30) == -signal.SIGKILL
    (folder / "quick.py").write_text("")
    assert warm.start([sys.executable, "quick.py"]).wait() == 0


def test_several_run_at_once(server, folder):
    (folder / "touch.py").write_text("import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('x')")
    waiting = warm.start([sys.executable, "wait.py"])
    assert [warm.start([sys.executable, "touch.py", str(n)]).wait() for n in range(3)] == [0, 0, 0]
    assert waiting.poll() is None
    waiting.terminate()
    assert waiting.wait() == 75


@pytest.mark.parametrize(("key", "value"), [("OMP_NUM_THREADS", "7"), ("BEFORE", None), ("CUDA_VISIBLE_DEVICES", "")])
def test_another_environment_wants_a_fresh_process(server, folder, key, value):
    env = {k: v for k, v in {**os.environ, key: value}.items() if v is not None}
    with pytest.raises(warm.Unavailable, match="environment"):
        warm.start([sys.executable, "ask.py"], env=env)


def test_what_a_c_library_has_set_in_the_environment_does_not_keep_it_from_being_used(folder, monkeypatch):
    """As torch's OpenMP does in a process of tests: Python does not see it, a process that is started has it."""
    monkeypatch.setattr(warm, "PRELOAD", "json")
    (folder / "quick.py").write_text("")
    libc = ctypes.CDLL(None)
    libc.setenv(b"SET_IN_C", b"1", 1)
    try:
        with warm.Server():
            assert warm.start([sys.executable, "quick.py"]).wait() == 0
    finally:
        libc.unsetenv(b"SET_IN_C")


@pytest.mark.parametrize("command", [["/bin/true", "x"], [sys.executable, "-c", "pass"], [sys.executable, "-X", "dev", "a.py"]])
def test_what_is_no_file_of_this_python_wants_a_fresh_process(server, command):
    with pytest.raises(warm.Unavailable):
        warm.start(command)


def test_without_a_server_or_with_one_that_cannot_import_a_fresh_process_is_started(folder, monkeypatch, capfd):
    monkeypatch.delenv(warm.ADDRESS, raising=False)
    (folder / "convert.py").write_text("import sys; sys.exit(2)")
    command = [sys.executable, str(folder / "convert.py")]
    assert chain.process(command) == 2
    monkeypatch.setattr(warm, "PRELOAD", "no_such_module")
    with warm.Server():
        assert chain.process(command) == 2
    assert "note: imports NeMo by itself, the server has ended: ModuleNotFoundError" in capfd.readouterr().err


def test_a_stage_whose_server_dies_is_stopped_and_goes_on_in_a_fresh_process(folder, monkeypatch):
    """It is asked to stop, as by Slurm; then the same command starts."""
    monkeypatch.setattr(warm, "PRELOAD", "json")
    server = warm.Server()
    server.start()
    (folder / "prune.py").write_text(
        "import os, signal, sys; from pathlib import Path\n"
        "if Path('stopped').exists(): Path('resumed').write_text('x'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, lambda *_: (Path('stopped').write_text('x'), sys.exit(75)))\n"
        f"os.kill({server.pid}, signal.SIGKILL); signal.pause()\n"
    )
    assert chain.process([sys.executable, str(folder / "prune.py")]) == 0
    assert (folder / "stopped").exists() and (folder / "resumed").exists()
    server.stop()


def test_a_chain_that_is_killed_leaves_neither_server_nor_stage(folder):
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from nemo_plugins.runs import warm\n"
            "warm.PRELOAD = 'json'; server = warm.Server(); server.start()\n"
            "stage = warm.start([sys.executable, 'wait.py'])\n"
            "Path('server').write_text(f'{server.pid} {server._folder}'); stage.wait()",
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    stage = int(until(folder / "pid"))
    server, address = until(folder / "server").split()
    owner.kill()
    owner.wait()
    assert gone(stage) and gone(int(server)) and not Path(address).exists()
    assert (folder / "signal").read_text() == "SIGTERM"  # it could save what it had


def test_part_of_a_stage_is_killed_with_it(server, folder):
    """As when Slurm kills the stage: what works for it does not go on alone."""
    env = {**os.environ, chain.children.WORKER: "1"}
    process = warm.start([sys.executable, "wait.py"], env=env)
    pid = int(until(folder / "pid"))
    process._connection.close()  # what the end of the process that asked does
    assert gone(pid) and not (folder / "signal").exists()


def test_a_server_that_ends_takes_its_address_and_folder_along(monkeypatch):
    monkeypatch.setattr(warm, "PRELOAD", "json")
    monkeypatch.delenv(warm.ADDRESS, raising=False)
    server = warm.Server()
    server.start()
    address = Path(os.environ[warm.ADDRESS])
    assert address.parent.stat().st_mode & 0o077 == 0  # whoever could connect could run code
    server.stop()
    assert warm.ADDRESS not in os.environ and not address.parent.exists()


@pytest.mark.parametrize(
    ("overrides", "job", "expected"),
    [
        ([], {}, True),
        (["platform.kind=cpu"], {}, True),
        (["platform.kind=gpu"], {}, False),
        (["platform.devices=2"], {}, False),
        (["platform.nodes=2"], {}, False),
        ([], {"WORLD_SIZE": "1"}, False),
        ([], {"SLURM_JOB_ID": "1"}, False),
        ([], {warm.ADDRESS: "/somewhere"}, False),
    ],
)
def test_only_a_chain_of_single_processes_on_a_cpu_starts_warm(monkeypatch, overrides, job, expected):
    from nemo_plugins.runs.prepare import compose

    for key in ("WORLD_SIZE", "SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", warm.ADDRESS):
        monkeypatch.delenv(key, raising=False)
    for key, value in job.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(chain.gpus, "device_files", list)
    platform = compose(["+model=tiny_pl", *overrides]).platform
    assert chain.can_start_warm(platform) is expected
    monkeypatch.setattr(chain.gpus, "device_files", lambda: [Path("/dev/nvidia0")])
    assert not chain.can_start_warm(platform)
