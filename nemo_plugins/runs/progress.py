"""How far a stage is: a bar on a terminal, else a line every half minute, whatever the stage is busy with."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from nemo_plugins.runs import output
from nemo_plugins.runs.workers import rank

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

INTERVAL = 30.0  # seconds between lines where the output is no terminal


class Progress:
    """Counts what is done of a stage or of a part of it; within its context, rank 0 shows it.

    Args:
        title: of the stage.
        total: how much there is to do; None until `now` says so.
        unit: what is counted.
        interval: seconds between lines.
    """

    def __init__(self, title: str, total: int | None = None, unit: str = "items", interval: float = INTERVAL):
        self.title = title
        self.total = total
        self.unit = unit
        self.interval = interval
        self.what = ""
        self.done, self.within = 0, 0.0  # whole ones, and what is done of the one at work
        self.began = time.monotonic()
        self._ended = threading.Event()
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        if rank() == 0:
            console = output.console(2)
            if console.is_terminal:
                self._show(console)
            else:
                threading.Thread(target=self._speak, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._ended.set()
        if self._bar:
            self._bar.stop()

    def now(self, what: str, total: int | None = None) -> None:
        """Say what is at work; with a total, it is a part that is counted from its beginning."""
        self.what = what
        if total is not None:
            self.total = total
            self.done = 0
            self.within = 0.0
            self.began = time.monotonic()
        self._update()

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.done, self.within = self.done + count, 0.0
        self._update()

    def part(self, count: float) -> None:
        """So many of those at work are done, which are not yet counted."""
        self.within = count
        self._update()

    def skip(self, count: int = 1) -> None:
        """So many need not be done: they were before, and say nothing of how long the others take."""
        self.total = max(0, (self.total or 0) - count)
        self._update()

    def line(self) -> str:
        """`eval: teacher: capitals, 120 of 1,560 items, 2 min 5 s left`."""
        parts = [self.what] if self.what else []
        if self.total:
            done = self.done + self.within
            parts.append(f"{int(done):,} of {self.total:,} {self.unit}")
            if done:
                left = (time.monotonic() - self.began) * max(0.0, self.total - done) / done
                parts.append(f"{output.duration(left)} left")
        return f"{self.title}: {', '.join(parts) or 'starting'}"

    def _speak(self) -> None:
        while not self._ended.wait(self.interval):
            output.error(self.line())

    def _show(self, console) -> None:
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
        )
        self._bar = progress.Progress(*columns, console=console)
        self._task = self._bar.add_task(self.title, total=self.total)
        self._bar.start()

    def _update(self) -> None:
        if self._bar:
            text = f"{self.title}: {self.what}" if self.what else self.title
            self._bar.update(self._task, description=text, completed=int(self.done + self.within), total=self.total)
