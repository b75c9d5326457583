"""What a recipe prints: its plan, its progress, what it wrote, and errors. What libraries say goes to the stage's `log.txt`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nemo_plugins.runs.workers import rank

if TYPE_CHECKING:
    from rich.console import Console

    from nemo_plugins.planning.plan import Plan

STREAMS = {1: "stdout", 2: "stderr"}
_terminal: dict[int, TextIO] = {}  # where our own lines go while a library's go to the log
METRICS_SHOWN = 8
BORDERS = 4  # columns of a box that are not its text's


def stream(number: int) -> TextIO:
    """The terminal's stdout (1) or stderr (2), also within `quiet`."""
    return _terminal.get(number) or getattr(sys, STREAMS[number])


def quiet(log: Path) -> None:
    """Send both output streams to `log`, those of C++ code and of child processes too; `say`, `error` and consoles stay."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, name in STREAMS.items():
        getattr(sys, name).flush()
        _terminal[number] = os.fdopen(os.dup(number), "w", encoding="utf-8", buffering=1)
        os.dup2(file, number)
    os.close(file)


def loud() -> None:
    """Give both streams back to the terminal."""
    for number in list(_terminal):
        getattr(sys, STREAMS[number]).flush()
        terminal = _terminal.pop(number)
        terminal.flush()
        os.dup2(terminal.fileno(), number)
        terminal.close()


def console(number: int = 1) -> Console:
    """A rich console on the terminal; 120 columns where the output is a file."""
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:  # rich's own ends the process
            unread(number)

    file = stream(number)
    return Piped(file=file, width=None if file.isatty() else 120)


def error(text: str) -> None:
    """One message on stderr, from rank 0 alone."""
    _print(text, 2)


def say(text: str) -> None:
    """One line on stdout, from rank 0 alone."""
    _print(text, 1)


def _print(text: str, number: int) -> None:
    if rank() == 0:
        try:
            print(text, file=stream(number), flush=True)
        except BrokenPipeError:
            unread(number)


def unread(number: int) -> None:
    """Nobody reads a stream any more (`… | head`): what is said to it is dropped from now on, and the work goes on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream(number).fileno())
    os.close(nowhere)


def flush() -> None:
    """Write out what both streams hold, so that the interpreter has nothing left to fail with when it exits."""
    for number in STREAMS:
        try:
            stream(number).flush()
        except BrokenPipeError:
            unread(number)


def plan(planned: Plan) -> None:
    """The plan's tables, then its warnings and what is not on this machine; of a chain its one screen."""
    from rich.text import Text

    tables(planned)
    screen = console()
    if planned.screen:
        screen.print(Text("dry run: nothing was written"))
        return
    for text in [*planned.warnings, *(missing.text for missing in planned.missing)]:
        screen.print(Text.assemble(("warning: ", "yellow"), text.replace("\n", "\n         ")), soft_wrap=True)
    screen.print(Text("dry run: nothing was written"))


def tables(planned: Plan) -> None:
    """A plan's title and tables."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    screen = console()
    screen.print(Text(planned.title, style="bold"))
    for part in planned.screen or planned.tables:
        if part.title:
            screen.print(Text(part.title, style="bold"))
        if part.lines:
            for row in part.rows:
                screen.print(Text("  ".join(map(str, row))), soft_wrap=True)
            continue
        looks = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False} if part.plain else {}
        table = Table(show_header=bool(part.columns), **looks)
        columns = part.columns or [""] * max(map(len, part.rows))
        words = {0, len(columns) - 1 if part.plain else 0}
        for number, column in enumerate(columns):
            right = part.numbers and number not in words
            table.add_column(column, overflow="fold", no_wrap=part.plain, justify="right" if right else "left")
        for row in part.rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        screen.print(table)


def finished(folder: Path, summary: dict[str, Any], commands: list[str]) -> None:
    """What a stage wrote, how long it took, its numbers, and how to go on."""
    from rich.panel import Panel
    from rich.text import Text

    lines = [f"{name:<12} {folder / path}" for name, path in {**summary["outputs"], "summary": "summary.json"}.items()]
    numbers = [(name, value) for name, value in summary["metrics"].items() if isinstance(value, (int, float))]
    known = dict(numbers)  # `first` and `last`, which every stage has, are often another number under its own name
    own = {end for name, value in numbers for end in ("first", "last") if name.endswith(f"_{end}") and known.get(end) == value}
    numbers = [(name, value) for name, value in numbers if name not in own]
    lines += [f"{name:<12} {value:.6g}" for name, value in numbers[:METRICS_SHOWN]]
    next_ = [f"{'next' if not number else '':<12} {command}" for number, command in enumerate(commands)]
    title = f"{summary['stage']}: done in {duration(summary['seconds'])}"
    screen = console()
    inside = all(len(line) <= screen.width - BORDERS for line in next_)  # a command that the box would cut comes below it
    screen.print(Panel(Text("\n".join([*lines, *next_] if inside else lines)), title=title, title_align="left"))
    for line in [] if inside else next_:
        screen.print(Text(line), soft_wrap=True)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
