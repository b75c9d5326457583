"""What a stage would do: tables for the reader, warnings, and what is not on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nemo_plugins.runs.errors import Unusable, UserError


@dataclass
class Table:
    """Rows of cells.

    Attributes:
        numbers: all columns but the first are aligned to the right.
        lines: each row is a line of its own, however long: a command, which no border may cut.
    """

    title: str
    rows: list[tuple]
    columns: list[str] = field(default_factory=list)
    numbers: bool = True
    lines: bool = False


@dataclass(frozen=True)
class Missing:
    """What this machine lacks: an error where the stage is to run, a warning in a dry run.

    `kind` is `teacher` or `earlier` (what an earlier stage leaves), `weights`, `data`, `device`, `package`, `memory` or `disk`.
    """

    kind: str
    text: str


@dataclass
class Plan:
    """Made by a stage's `plan(cfg)`; printed by a dry run."""

    title: str
    tables: list[Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    sizes: str = ""  # one line for the plan of a chain
    writes: float = 0.0  # bytes that are not on the disk yet
    seconds: float | None = None  # on this machine's CPU, estimated

    def need(self, kind: str, check: Callable[[], object]) -> object:
        """Call a check whose UserError means that something is not on this machine. Returns what it returns, else None.

        Raises:
            Unusable: it is here, and is not what it should be.
        """
        try:
            return check()
        except Unusable:
            raise
        except UserError as error:
            self.missing.append(Missing(kind, str(error)))
            return None


def count(number: int) -> str:
    """`7.48 B (7,477,727,232)`."""
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.2f} {unit} ({number:,})"
    return f"{number:,}"


def gib(number: float) -> str:
    """Bytes as text."""
    if number >= 2**30:
        return f"{number / 2**30:.1f} GiB"
    return f"{number / 2**20:.1f} MiB"
