"""Lines of JSONL files as checked rows: what is wrong with a row is counted and named file:line, then dropped or refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nemo_plugins.data import lines
from nemo_plugins.runs.errors import UserError

POLICIES = ("drop", "error")
LONGEST = 64 << 20  # bytes of a line; what is longer is skipped unread, for it is no dialogue
NAMED = 5  # places of each fault that are kept for people to look at

Row = TypeVar("Row")


@dataclass(frozen=True)
class Piece:
    """Lines of a file that one process reads: those in the bytes `start` to `stop` of its text, from line `first` on."""

    path: Path
    start: int = 0
    stop: int | None = None
    first: int = 1


class Fault(ValueError):
    """A row cannot be used.

    Args:
        kind: short name that faults are counted under.
        detail: what came and what was expected.
    """

    def __init__(self, kind: str, detail: str):
        super().__init__(detail.encode(errors="backslashreplace").decode())  # half surrogates cannot be printed
        self.kind = kind


@dataclass
class Report:
    """What became of the rows of a data set.

    Attributes:
        key: of the configuration, for messages (`sft.data`).
        policy: "drop" counts a faulty row and goes on; "error" counts all of them and then refuses the data.
        kept: rows that passed all checks so far.
        faults: rows dropped, by kind.
        notices: rows kept that deserve a look, by kind.
        places: the first `NAMED` places of each kind, `file:line: detail`.
    """

    key: str = "data"
    policy: str = "drop"
    kept: int = 0
    faults: Counter = field(default_factory=Counter)
    notices: Counter = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise UserError(f"{self.key}: policy {self.policy!r}", f"expected one of {', '.join(POLICIES)}")

    def fault(self, where: str, fault: Fault) -> None:
        """Count a row that is dropped."""
        self.faults[fault.kind] += 1
        self._place(fault.kind, f"{where}: {fault}")

    def late(self, where: str, fault: Fault) -> None:
        """Count a row that was kept when it was read and falls at a later check."""
        self.kept -= 1
        self.fault(where, fault)

    def notice(self, where: str, kind: str, detail: str) -> None:
        """Count a row that is kept and deserves a look."""
        self.notices[kind] += 1
        self._place(kind, f"{where}: {detail}")

    def _place(self, kind: str, place: str) -> None:
        places = self.places.setdefault(kind, [])
        if len(places) < NAMED:
            places.append(place)

    def add(self, part: Mapping[str, Any]) -> None:
        """Count what the next rows became, as their report's `summary` has it."""
        self.kept += part["kept"]
        self.faults.update(part["faults"])
        self.notices.update(part["notices"])
        for kind, found in part["places"].items():
            for place in found:
                self._place(kind, place)

    def settle(self) -> None:
        """End of the data.

        Raises:
            UserError: there were faults and the policy is "error", or no row is left.
        """
        if self.faults and self.policy == "error":
            what = f"{self.key}: {self.dropped} of {self.dropped + self.kept} rows cannot be used"
            raise UserError(what, *self.lines(), "correct these rows, or let them be dropped (policy drop)")
        if not self.kept:
            raise UserError(f"{self.key}: no usable row", *self.lines(), "expected at least one")

    @property
    def dropped(self) -> int:
        return sum(self.faults.values())

    def lines(self) -> list[str]:
        """For people: each kind with its count and its first places."""
        counted = [*self.faults.most_common(), *((kind, f"{count} (kept)") for kind, count in self.notices.most_common())]
        return [line for kind, count in counted for line in (f"  {kind} {count}", *(f"    {at}" for at in self.places[kind]))]

    def summary(self) -> dict[str, Any]:
        """For `summary.json`."""
        parts = {"faults": dict(self.faults), "notices": dict(self.notices), "places": self.places}
        return {"kept": self.kept, "dropped": self.dropped, **parts}


Check = Callable[[dict, str, Report], Row]


def read(paths: Iterable[str | Path], check: Check[Row], report: Report) -> Iterator[Row]:
    """Rows of `.jsonl[.gz|.zst]` files that pass `check`, in their order; one line is in memory at a time.

    Args:
        check: from a JSON object, its place (`file:line`) and the report to a row; raises `Fault`.

    Raises:
        UserError: a file is missing or of another kind; at the end, what `Report.settle` raises.
    """
    for path in map(Path, paths):
        yield from read_piece(Piece(path), check, report)
    report.settle()


def read_piece(piece: Piece, check: Check[Row], report: Report) -> Iterator[Row]:
    """Rows of a piece that pass `check`, without a word about the whole. Raises UserError as `read`."""
    path = piece.path
    if not path.is_file() or not path.name.endswith(lines.JSON_LINES):
        found = "is no file" if not path.is_file() else "has an unknown ending"
        raise UserError(f"{report.key}: {path} {found}", f"expected {', '.join(lines.JSON_LINES)}")
    for number, line in _lines(piece):
        where = f"{path.name}:{number}"
        try:
            row = check(_parse(line), where, report)
        except Fault as fault:
            report.fault(where, fault)
            continue
        report.kept += 1
        yield row


def pieces(path: Path, size: int) -> list[Piece]:
    """All of a file in pieces of about `size` bytes of text. A compressed file is unpacked once to know them."""
    found, start, first = [], 0, 1
    try:
        with lines.opened(path) as stream:
            while chunk := stream.read(size):
                ends, length = chunk.count(b"\n"), len(chunk)
                if not chunk.endswith(b"\n"):
                    ends, length = ends + 1, length + lines.skip(stream)
                found.append(Piece(path, start, start + length, first))
                start, first = start + length, first + ends
    except lines.damages(path):
        found.append(Piece(path, start, None, first))  # whoever reads it counts the damage
    return found or [Piece(path)]


def _lines(piece: Piece) -> Iterator[tuple[int, bytes | Fault]]:
    """Lines with their numbers in the file, blank ones left out; instead of a line that cannot be read, its fault."""
    number, before = piece.first - 1, piece.first - 1
    try:
        with lines.opened(piece.path) as stream:
            lines.enter(stream, piece.start)
            length = None if piece.stop is None else piece.stop - piece.start
            for one in lines.read(stream, LONGEST - 1, stop=length):  # and a byte for its end
                number = before + one.number
                if one.content is None:
                    yield number, Fault("line_too_long", f"{one.size:,} bytes, expected at most {LONGEST:,}")
                else:
                    yield number, one.content
    except lines.damages(piece.path) as error:
        yield number + 1, Fault("file_damaged", f"{error}; the rest of this file is lost")


def _parse(line: bytes | Fault) -> dict:
    if isinstance(line, Fault):
        raise line
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise Fault("not_utf8", f"byte {error.start} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise Fault("not_json", str(error)) from None
    if not isinstance(row, dict):
        raise Fault("not_an_object", f"expected a JSON object, got {type(row).__name__}")
    return row
