"""Local workers: a plain `python` call with `platform.devices` above 1 starts that many copies of itself. Imports no torch."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from nemo_plugins.configs.schema import PlatformConfig, Recipe
from nemo_plugins.runs import warm
from nemo_plugins.runs.children import WORKER
from nemo_plugins.runs.errors import RESUMABLE

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# seconds between asking the others to end and killing them
GRACE_STOPPED = 30.0  # all stop together and may be writing their checkpoint
GRACE_FAILED = 5.0  # one has failed: the others wait for it in a collective and hear no signal
LAST_LINES = 30  # of the failing worker's stderr


def world() -> int | None:
    """Processes of the job that torchrun, Slurm's srun or our own launcher started this process in; None for a plain call."""
    env = os.environ
    if "WORLD_SIZE" in env:
        return int(env["WORLD_SIZE"])
    tasks = int(env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS") or 1)
    return tasks if tasks > 1 else None


def rank() -> int:
    """Number of this process in the job: torchrun's and our workers' RANK, else Slurm's SLURM_PROCID, else 0."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def needed(platform: PlatformConfig) -> bool:
    """Whether this process is to start workers rather than to work."""
    return platform.devices > 1 and platform.nodes == 1 and world() is None


def start(platform: PlatformConfig, arguments: list[str]) -> int:
    """Run `platform.devices` copies of this command and wait for them.

    Rank 0 has the terminal; what the others say is dropped but for the last lines of the one that failed first. A signal to
    this process goes to all. When one fails, the rest are ended.

    Returns: 0, or the exit code of the first that failed.
    """
    count = platform.devices
    threads = platform.threads or max(1, (os.cpu_count() or 1) // count)
    # the workers are ours, not srun's
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    shared |= {"NODE_RANK": "0", "GROUP_RANK": "0", "OMP_NUM_THREADS": str(threads)}
    workers: list[subprocess.Popen | warm.ForkedProcess] = []
    tails: list[collections.deque] = []
    for number in range(count):
        env = {**inherited, **shared, "RANK": str(number), "LOCAL_RANK": str(number), WORKER: "1"}
        tails.append(collections.deque(maxlen=LAST_LINES))
        if number == 0:
            workers.append(_worker(arguments, env, 1, 2))
            continue
        source, sink = os.pipe()
        with open(os.devnull, "wb") as nowhere:
            workers.append(_worker(arguments, env, nowhere.fileno(), sink))
        os.close(sink)
        lines = open(source, encoding="utf-8", errors="replace")
        threading.Thread(target=tails[number].extend, args=(lines,), daemon=True).start()

    first = None
    with forwarding(workers):
        try:
            first = _wait(workers)
        finally:
            stopped = first is not None and workers[first].returncode == RESUMABLE
            _end(workers, GRACE_STOPPED if stopped else GRACE_FAILED)
    if first is None:
        return 0
    code = workers[first].wait()
    if first and tails[first]:
        print(
            f"worker {first} of {count} said last:",
            *(line.rstrip() for line in tails[first]),
            sep="\n",
            file=sys.stderr,
        )
    if code < 0:
        print(f"worker {first} of {count} was ended by {signal.Signals(-code).name}", file=sys.stderr)
    return 128 - code if code < 0 else code


@contextlib.contextmanager
def forwarding(processes: Sequence[subprocess.Popen | warm.ForkedProcess]) -> Iterator[None]:
    """What asks this process to stop goes to these, those that have ended already left out."""

    def forward(number: int, _frame) -> None:
        for process in processes:
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _worker(arguments: list[str], env: dict[str, str], stdout: int, stderr: int) -> subprocess.Popen | warm.ForkedProcess:
    """One copy, forked from the server that there may be, in a session of its own: Ctrl-C reaches it once, through us."""
    command = [sys.executable, *arguments]
    try:
        return warm.start(command, env=env, stdout=stdout, stderr=stderr)
    except warm.Unavailable:
        return subprocess.Popen(command, env=env, start_new_session=True, stdout=stdout, stderr=stderr)


def _wait(workers: list[subprocess.Popen | warm.ForkedProcess]) -> int | None:
    """Until all are done (None) or one has failed (its number)."""
    while True:
        codes = [worker.poll() for worker in workers]
        failed = [number for number, code in enumerate(codes) if code]
        if failed:
            return failed[0]
        if all(code == 0 for code in codes):
            return None
        time.sleep(0.1)


def _end(workers: list[subprocess.Popen | warm.ForkedProcess], grace: float) -> None:
    """End what still runs: asked first, killed after `grace` seconds (a rank that waits for a lost one hears no signal)."""
    deadline = time.monotonic() + grace
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    for worker in workers:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(cfg: Recipe) -> int:
    """CPU threads of a stage that is one process: `platform.threads`, else OMP_NUM_THREADS, else all that it may use."""
    return cfg.platform.threads or int(os.environ.get("OMP_NUM_THREADS") or cores())
