"""Warm starts: a process that has imported NeMo forks one for each stage, which begins where a fresh one is after 10 seconds.

    with Server():
        stage = warm.start([sys.executable, "recipes/prune.py", "+model=tiny_pl"])
        stage.wait()

A stage that is forked has the session, environment, streams, signals, random state and exit code of one that is started. The
server computes nothing: no thread pool, no process group and no device is there to be inherited.

    python -m nemo_plugins.runs.warm LISTENER OWNER MODULE [VARIABLE …]    the server itself, with two sockets that it inherits
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.runs import children

ADDRESS = "MINITRON_WARM"  # in the environment: the socket of the server that this process and those that it starts may use
# module that a server imports; where it has them, its `expect` is called before a fork and its `renew` after
PRELOAD = "nemo_plugins.runs.preload"
# variables that say nothing to a library that is being imported; any other that differs from the server's wants a fresh process
FREE = {
    "PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES", "TERM", "PYTEST_CURRENT_TEST",
    "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "RANK", "LOCAL_RANK",
}  # fmt: skip
OURS = "MINITRON_"
LOG = "log.txt"  # beside the socket: what the imports say
LENGTH = struct.Struct("!I")
ANSWER = struct.Struct("!cq")  # what it is and a number
REFUSED, STARTED, ENDED = b"r", b"s", b"e"
POLL = 0.05  # seconds


class Unavailable(Exception):
    """There is no server that can start the process: start a fresh one."""


class Lost(Exception):
    """The server died while the process ran; the process was asked to stop and has ended."""


class Server:
    """Starts when it is first needed and ends with `stop`, with the `with` block, or with the process that made it.

    It imports what its environment says when it starts; processes inherit its address in their environment.
    """

    def __init__(self, free: Collection[str] = (), preload: str | None = None) -> None:
        """`free`: variables besides that no library reads while it is imported; `preload`: another module than `PRELOAD`."""
        self.free = FREE | set(free)
        self.preload = preload or PRELOAD
        self.pid: int | None = None
        self._folder = ""
        self._before: str | None = None
        self._process: subprocess.Popen | None = None
        self._owner: socket.socket | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, which imports in the background. Its processes are stopped when this one ends, however it ends."""
        if self._process:
            return
        children.import_this_code()  # the server as well
        self._folder = tempfile.mkdtemp(prefix="minitron-")  # of this user alone, as whoever connects runs code
        address = os.path.join(self._folder, "socket")
        self._owner, owned = socket.socketpair()
        log = open(os.path.join(self._folder, LOG), "wb")
        with owned, log, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            handed = (listener.fileno(), owned.fileno())
            command = [sys.executable, "-m", __name__, *map(str, handed), self.preload, *sorted(self.free)]
            # a session of its own: Ctrl-C is not for it; a folder without strangers' modules: it is the first on its path
            self._process = subprocess.Popen(
                command,
                pass_fds=handed,
                cwd=REPOSITORY,
                env=dict(os.environ),  # not what C libraries have set besides: requests do not have it either
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._before = os.environ.get(ADDRESS)
        os.environ[ADDRESS] = address

    def stop(self) -> None:
        """End the server; a process that it started and that still runs is asked to stop first."""
        if not self._process or not self._owner:
            return
        self._owner.close()
        self._process.wait()
        self._process = self.pid = None
        del os.environ[ADDRESS]
        if self._before:
            os.environ[ADDRESS] = self._before
        shutil.rmtree(self._folder, ignore_errors=True)


class ForkedProcess:
    """A process that a server forked; the part of `subprocess.Popen` that a stage needs.

    Attributes:
        pid: of the process.
        returncode: its exit code, −n where signal n ended it, None while it runs.
    """

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises `subprocess.TimeoutExpired`, and `Lost` once it has ended with its server."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:  # a signal's handler may run meanwhile
                selector.register(self._connection, selectors.EVENT_READ)
                if not selector.select(timeout) and timeout is not None:
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
            answer = _read(self._connection, ANSWER.size)
            if not answer:
                while _is_alive(self.pid):
                    time.sleep(POLL)
                raise Lost(f"process {self.pid} lost its server")
            self.returncode = ANSWER.unpack(answer)[1]
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:  # not asked for here: a signal's handler comes in the middle of `wait`
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    command: Sequence[str],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | IO = 0,
    stdout: int | IO = 1,
    stderr: int | IO = 2,
) -> ForkedProcess:
    """Start `command` through the server that the environment names; it is ended when this process is.

    Args:
        command: this Python, then a file or `-m` and a module, then arguments.
        env: of the process; default: this one's.
        stdin, stdout, stderr: what they are in the process: descriptors or open files.

    Raises:
        Unavailable: no server, one with another environment, or one that could not import what it should.
    """
    env = dict(os.environ if env is None else env)
    address = env.get(ADDRESS)
    if not address:
        raise Unavailable(f"{ADDRESS} is not set")
    if command[0] != sys.executable or (command[1].startswith("-") and command[1] != "-m"):
        raise Unavailable(f"{command[:2]}: not a file or module for {sys.executable}")
    streams = [stream if isinstance(stream, int) else stream.fileno() for stream in (stdin, stdout, stderr)]
    request = json.dumps({"arguments": list(command[1:]), "cwd": os.path.abspath(cwd or os.getcwd()), "env": env}).encode()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
        socket.send_fds(connection, [LENGTH.pack(len(request))], streams)
        connection.sendall(request)
        answer = _read(connection, ANSWER.size)
    except OSError:
        answer = b""
    if not answer:
        connection.close()
        raise Unavailable(f"the server has ended: {_last_words(Path(address).with_name(LOG))}")
    kind, number = ANSWER.unpack(answer)
    if kind == REFUSED:
        connection.close()
        raise Unavailable("the environment is another one than the server's")
    return ForkedProcess(connection, number)


def main(listener: int, owner: int, preload: str, free: Collection[str]) -> None:
    """The server. In a process that it forked it returns from `_serve` with what is to be run, and runs it."""
    environment, waiting = dict(os.environ), socket.socket(fileno=listener)
    importlib.import_module(preload)
    with warnings.catch_warnings():
        # libraries have threads that come back after a fork (OpenBLAS, jemalloc); of OpenMP's or torch's there are none yet
        warnings.simplefilter("ignore", DeprecationWarning)
        expect = getattr(sys.modules[preload], "expect", lambda arguments: None)
        request = _serve(waiting, socket.socket(fileno=owner), environment, free, expect)
    if request:
        getattr(sys.modules[preload], "renew", lambda: None)()
        _run(request["arguments"])
    else:  # whoever started it may have been killed
        shutil.rmtree(os.path.dirname(waiting.getsockname()), ignore_errors=True)


def _serve(
    listener: socket.socket,
    owner: socket.socket,
    environment: dict[str, str],
    free: Collection[str],
    expect: Callable[[list[str]], None],
) -> dict | None:
    """Fork a process for each request until nobody is left who could ask. `expect` hears of each before.

    Returns: in a process that was forked its request, in the server None.
    """
    import gc

    gc.collect()
    gc.freeze()  # a collection would copy every page that the processes share
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    handler = signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: dict[int, tuple[socket.socket, bool]] = {}  # by process: who asked, and whether it is a part of the asker's work
    with selectors.DefaultSelector() as selector:
        for one in (listener, owner, awake):
            selector.register(one, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == awake:
                    os.read(awake, 4096)
                    _report(running, selector)
                elif isinstance(gone := key.fileobj, socket.socket) and gone is not listener:  # whoever asked, or the owner
                    selector.unregister(gone)
                    gone.close()
                    for pid, (asker, part) in running.items():
                        if asker is gone:
                            os.kill(pid, signal.SIGKILL if part else signal.SIGTERM)
                else:
                    connection, _ = listener.accept()
                    request, streams = _request(connection)
                    if not request or not _same(environment, request["env"], free):
                        _answer(connection, REFUSED, 0)
                        connection.close()
                        _close(streams)
                        continue
                    expect(request["arguments"])
                    server = os.getpid()
                    pid = os.fork()
                    if not pid:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, handler)
                        _close([awake, wake])
                        for opened in (listener, owner, connection, *(asker for asker, _ in running.values())):
                            opened.close()
                        _become(request, streams, environment, server)
                        return request
                    _close(streams)
                    running[pid] = (connection, children.WORKER in request["env"])
                    selector.register(connection, selectors.EVENT_READ)
                    _answer(connection, STARTED, pid)
            if owner.fileno() < 0 and not running:
                return None


def _report(running: dict[int, tuple[socket.socket, bool]], selector: selectors.BaseSelector) -> None:
    """Tell of each process that has ended."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        asker, _ = running.pop(pid, (None, False))
        if asker is not None and asker.fileno() >= 0:
            selector.unregister(asker)
            _answer(asker, ENDED, os.waitstatus_to_exitcode(status))
            asker.close()


def _become(request: dict, streams: list[int], environment: dict[str, str], server: int) -> None:
    """Give a process that was just forked what a fresh one would have."""
    import multiprocessing.process
    import random

    import numpy

    os.setsid()
    ctypes.CDLL(None, use_errno=True).prctl(children.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != server:
        os._exit(128 + signal.SIGTERM)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    _close(stream for stream in streams if stream > 2)
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.write_through:  # PYTHONUNBUFFERED
        sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    os.chdir(request["cwd"])
    for key in environment.keys() - request["env"].keys():
        os.environ.pop(key, None)
    os.environ.update({key: value for key, value in request["env"].items() if environment.get(key) != value})
    children.end_with_parent()
    multiprocessing.process.ORIGINAL_DIR = os.getcwd()  # type: ignore[attr-defined]  # typeshed does not have it
    random.seed()
    numpy.random.seed()


def _run(arguments: list[str]) -> None:
    """What `python` does with its arguments."""
    import runpy

    if arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


def _same(environment: Mapping[str, str], other: Mapping[str, str], free: Collection[str]) -> bool:
    """Whether a library that was imported in one environment is what it would be in the other.

    What the libraries set while they are imported (this process has imported them) does not count.
    """
    differ = {key for key, _ in environment.items() ^ other.items() if os.environ.get(key) != other.get(key)}
    return all(key in free or key.startswith(OURS) for key in differ)


def _request(connection: socket.socket) -> tuple[dict | None, list[int]]:
    """What is asked for, and the three streams; None where whoever asks is gone before it has."""
    try:
        header, streams, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
        return json.loads(_read(connection, LENGTH.unpack(header)[0])), streams
    except (OSError, struct.error, ValueError):
        return None, []


def _read(connection: socket.socket, count: int) -> bytes:
    """`count` bytes, or none where the other side is gone."""
    try:
        got = connection.recv(count, socket.MSG_WAITALL)
    except ConnectionError:
        return b""
    return got if len(got) == count else b""


def _answer(connection: socket.socket, kind: bytes, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody is left to hear it
        connection.sendall(ANSWER.pack(kind, number))


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next(filter(None, reversed(lines)), "it said nothing")


def _close(descriptors) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended stays in the list for ever where nothing reaps, as in some containers."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
