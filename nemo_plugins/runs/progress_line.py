"""One line for a whole chain: the stage at work, the share that is done, the time that is left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from omegaconf import OmegaConf

from nemo_plugins.runs import output
from nemo_plugins.runs.stages import by_name

if TYPE_CHECKING:
    from rich.progress import Progress

OTHER = 30  # seconds of a recipe that is no stage of ours
PRIOR = 60.0  # seconds for which the first guess counts
NEARLY = 0.95  # share of a stage that says nothing of its steps, however long it takes


class ProgressLine:
    """Progress of a chain's stages; those that were finished before it began do not count.

    On a terminal the line stays at the bottom and what stages print goes to the run's `chain.log`; elsewhere each stage prints
    as it does by itself, between a line at its start and one at its end.
    """

    def __init__(self, folder: Path, stages: list[tuple[str, str]], look: Callable[[ProgressLine], None] | None = None) -> None:
        """`stages`: name below `folder` and recipe of each; `look` is called at every tick and at the end of a stage."""
        self.folder = folder
        self.recipes = dict(stages)
        self.look = look or (lambda line: None)
        self.numbers = {name: number for number, (name, _) in enumerate(stages, 1)}
        known = by_name()  # seconds on another machine: their proportions are a first guess, the run's own pace corrects it
        guesses = {name: known[recipe].seconds if recipe in known else OTHER for name, recipe in stages}
        self.weights = {name: seconds for name, seconds in guesses.items() if not self._finished(name)}
        self.total = sum(self.weights.values())
        self.stage_begun = time.monotonic()
        self.done = self.spent = 0.0  # seconds of the table, seconds of the clock
        self.stage = ""
        self._max_steps: int | None = None
        self._bar: Progress | None = None
        self._log: IO | None = None
        self._log_start = 0

    def __enter__(self) -> ProgressLine:
        console = output.console()
        if console.is_terminal:
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[left]}"))
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task("", total=1.0, left="")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._log = (self.folder / "chain.log").open("a+")
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()
        if self._log:
            self._log.close()

    @property
    def streams(self) -> dict[str, IO]:
        """Where a stage prints."""
        return {"stdout": self._log or output.stream(1), "stderr": self._log or output.stream(2)}

    def begin(self, name: str) -> None:
        self.stage = name
        self.stage_begun = time.monotonic()
        self._max_steps = None
        if self._log:
            self._log_start = self._log.seek(0, 2)
        else:
            output.say(f"[{self.numbers[name]}/{len(self.numbers)}] {name}")
        self.tick()

    def tick(self) -> None:
        """Look at where the stage is."""
        if self._bar:
            self._bar.update(
                self._task,
                description=f"[{self.numbers[self.stage]}/{len(self.numbers)}] {self.stage}".replace("[", r"\["),
                completed=self.share(),
                left=f"about {output.duration(self.seconds_left())} left",
            )
        self.look(self)

    def end(self) -> None:
        """The stage has ended well."""
        took, name = time.monotonic() - self.stage_begun, self.stage
        if name in self.weights:
            self.done, self.spent = self.done + self.weights.pop(name), self.spent + took
        self.stage = ""
        said = f"[{self.numbers[name]}/{len(self.numbers)}] {name}: {output.duration(took)}"
        left = f"about {output.duration(self.seconds_left())} left" if self.weights else ""
        self.say(f"{said}; {self.share():.0%} done{f', {left}' if left else ''}".replace("% done", " % done"))
        if self._bar:
            self._bar.update(self._task, completed=self.share(), left=left)
        self.look(self)

    def fail(self, name: str) -> None:
        """Show on stderr what a stage has said that did not end well."""
        if self._bar and self._log:
            self._bar.stop()
            self._log.seek(self._log_start)
            output.error(self._log.read().rstrip())

    def say(self, text: str) -> None:
        """Lines above the line."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            output.say(text)

    def share(self) -> float:
        """Of all the work, what is done."""
        return (self.done + self._at_work()) / self.total if self.total else 1.0

    def seconds_left(self) -> float:
        """By the pace so far."""
        return max(0.0, self.total - self.done - self._at_work()) * self._pace()

    def _pace(self) -> float:
        """Seconds that a second of the table takes; of the stage at work nothing is known before it ends."""
        return (self.spent + PRIOR) / (self.done + PRIOR)

    def _at_work(self) -> float:
        """Seconds of the table that the stage at work has done."""
        weight = self.weights.get(self.stage, 0.0)
        if not weight:
            return 0.0
        step, steps = self._steps()
        by_time = (time.monotonic() - self.stage_begun) / (weight * self._pace())
        return weight * min(NEARLY, step / steps if step and steps else by_time)

    def _steps(self) -> tuple[int, int | None]:
        """Of a stage that trains: the step that it has logged last, and how many there are."""
        folder = self.folder / self.stage
        if self._max_steps is None and (folder / "config.yaml").is_file():
            section = OmegaConf.load(folder / "config.yaml").get(self.recipes[self.stage]) or {}
            self._max_steps = section.get("max_steps") or 0
        metrics = folder / "metrics.jsonl"
        lines = metrics.read_text().splitlines() if self._max_steps and metrics.is_file() else []
        for line in reversed(lines):
            try:
                return json.loads(line)["step"], self._max_steps
            except (ValueError, KeyError):  # half written
                continue
        return 0, self._max_steps

    def _finished(self, name: str) -> bool:
        return (self.folder / name / "summary.json").is_file()
