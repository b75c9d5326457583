"""What a stage would do: tables for the reader, warnings, and what is not on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from nemo_plugins.runs.errors import Unusable, UserError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass
class Table:
    """Rows of cells.

    Attributes:
        numbers: all columns but the first are aligned to the right, and of a plain table all but the last, too.
        lines: each row is a line of its own, however long: a command, which no border may cut.
        plain: no borders.
    """

    title: str
    rows: list[tuple]
    columns: list[str] = field(default_factory=list)
    numbers: bool = True
    lines: bool = False
    plain: bool = False


@dataclass(frozen=True)
class Missing:
    """What this machine lacks: an error where the stage is to run, a warning in a dry run.

    `kind` is `teacher` or `earlier` (what an earlier stage leaves), `weights`, `data`, `tasks`, `device`, `packing`, `package`,
    `memory` (of the machine), `fit` (of a GPU) or `disk`; `give` the key to give, where nothing was given.
    """

    kind: str
    text: str
    give: str = ""


@dataclass(frozen=True)
class Cost:
    """What a stage takes where it runs: on its GPUs, or on a CPU where there are none.

    Attributes:
        bytes: of memory, on each GPU or of the machine.
        room: bytes that there are; None: not known.
        gpus: that the stage is given; 0: it runs on a CPU.
        hours: of all of them side by side; None: not estimated.
        layout: how a training is split.
        on_host: the memory is the node's.
        note: a line of its own for the plan of a chain.
    """

    bytes: float | None = None
    room: float | None = None
    gpus: int = 0
    hours: float | None = None
    layout: str = ""
    on_host: bool = False
    note: str = ""

    @property
    def gpu_hours(self) -> float | None:
        return self.gpus * self.hours if self.gpus and self.hours is not None else None


@dataclass
class Plan:
    """Made by a stage's `plan(cfg)`; printed by a dry run."""

    title: str
    tables: list[Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    sizes: str = ""  # one line for the plan of a chain
    hub: int = 0  # tasks that read data sets of the Hugging Face hub
    writes: float = 0.0  # bytes that are not on the disk yet
    seconds: float | None = None  # on this machine's CPU, estimated
    cost: Cost = field(default_factory=Cost)
    screen: list[Table] = field(default_factory=list)  # what a dry run prints in place of all of the above

    def need(
        self, kind: str, check: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result | None:
        """Call a check whose UserError means that something is not on this machine. Returns what it returns, else None.

        Raises:
            Unusable: it is here, and is not what it should be.
        """
        try:
            return check(*args, **kwargs)
        except Unusable:
            raise
        except UserError as error:
            self.missing.append(Missing(kind, str(error)))
            return None

    def lack(self, kind: str, *lines: str, give: str = "") -> None:
        """Note what is known to be missing; `give`: the key to give, where none was given."""
        self.missing.append(Missing(kind, "\n".join(lines), give))


def count(number: int) -> str:
    """`7.48 B (7,477,727,232)`."""
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.2f} {unit} ({number:,})"
    return f"{number:,}"


def short(number: float) -> str:
    """`65.5 B`."""
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def gib(number: float) -> str:
    """Bytes as text."""
    if number >= 2**30:
        return f"{number / 2**30:,.1f} GiB"
    return f"{number / 2**20:.1f} MiB"
