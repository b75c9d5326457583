"""Whether two formulas are equal, by math-verify in a process of its own whose time and memory the kernel bounds."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path

SECONDS = 1.0  # of processor time for a question, five times as long by the clock
MEMORY = 2 * 2**30  # bytes of address space, sympy itself included
STARTING = 120.0  # seconds for the imports
WORKER = Path(__file__).with_name("symbolic_worker.py")

DIFFERENT, EQUAL, UNREADABLE, OVER = range(4)  # symbolic_worker.py

_lock = threading.Lock()
_process: tuple[int, subprocess.Popen] | None = None  # of which process, and its worker


def equal(reference: str, answer: str, within: str = "") -> bool:
    """Whether the two formulas in LaTeX are equal for every value of their variables.

    Args:
        within: a fraction as text: equal to that, for decimals of values that no decimal writes. Nothing: exactly.
    """
    return _ask(reference, answer, within) == EQUAL


@lru_cache(maxsize=20_000)
def _ask(reference: str, answer: str, within: str) -> int:
    """The worker's answer. One that does not come counts as OVER, and the next question gets another worker."""
    question = {"reference": reference, "answer": answer, "within": within, "seconds": SECONDS, "bytes": MEMORY}
    with _lock:
        worker = _worker()
        try:
            if worker.stdin is None:
                raise ValueError("the worker has no pipes")
            worker.stdin.write(json.dumps(question).encode() + b"\n")
            worker.stdin.flush()
            return int(_line(worker, 10 * SECONDS))
        except (OSError, ValueError, TimeoutError):
            _end()
            return OVER


def _worker() -> subprocess.Popen:
    global _process
    if _process is None or _process[0] != os.getpid() or _process[1].poll() is not None:
        worker = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is the recipe's to handle; the worker ends with its stdin
        )
        _process = os.getpid(), worker
        try:
            _line(worker, STARTING)
        except (OSError, TimeoutError) as error:
            _end()
            raise RuntimeError(f"math-verify does not start: {error}; see {sys.executable} {WORKER}") from None
    return _process[1]


def _line(worker: subprocess.Popen, seconds: float) -> bytes:
    if worker.stdout is None or not select.select([worker.stdout], [], [], seconds)[0]:
        raise TimeoutError(f"nothing came in {seconds:g} seconds")
    line = worker.stdout.readline()
    if not line:
        raise OSError("it has ended")
    return line


@atexit.register
def _end() -> None:
    global _process
    if _process and _process[0] == os.getpid():
        _process[1].kill()
        _process[1].wait()
    _process = None
