"""When a training stops before its end: a signal asks for it, or the Slurm job's time is nearly over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from nemo_plugins import runs

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
END = "SLURM_JOB_END_TIME"  # seconds since 1970; Slurm counts from the job's own start, not from this process's


@contextmanager
def signals_blocked() -> Iterator[None]:
    """The signals wait until this block is over, for this process and for those that it starts in it for good.

    Slurm sends them to every process of a job: one that helps to write a checkpoint would die, and the checkpoint with it.
    """
    resource_tracker.ensure_running()  # where it starts later, it lets them through again (multiprocessing/resource_tracker.py)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopRequests:
    """A context in which the first signal asks for a stop after the current step, and a second one stops at once.

    Args:
        minutes: how long before the end of the Slurm job to stop.
    """

    def __init__(self, minutes: float):
        end = os.environ.get(END, "")
        self.deadline = float(end) - 60 * minutes if end.isdigit() else None
        self.why: str | None = None

    def asked(self) -> str | None:
        """Why to stop, or None. Only this process knows: the ranks must agree on it."""
        if self.why is None and self.deadline is not None and time.time() > self.deadline:
            self.why = "the job's time is nearly over"
        return self.why

    def _handle(self, number: int, _frame) -> None:
        name = signal.Signals(number).name
        if self.why is not None:
            raise KeyboardInterrupt(name)
        self.why = name
        if runs.rank() == 0:
            runs.console(2).print(f"{name}: a checkpoint after this step, then it stops; again: at once")

    def __enter__(self) -> StopRequests:
        self._before = self.take()
        return self

    def take(self) -> dict[signal.Signals, Any]:
        """Take the signals. Returns: who had them. Once more when training begins: Lightning takes SIGTERM and exits with 0."""
        return {number: signal.signal(number, self._handle) for number in SIGNALS}

    def __exit__(self, *_error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
