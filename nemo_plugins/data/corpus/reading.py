"""Reads what the world sends: every document, and for each one that cannot be read a reason and its place.

Nothing here raises for what is in a file. A line of any length costs no more memory than the longest allowed one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nemo_plugins.data import documents, lines

EXCERPT = 200  # characters
REASONS = {
    "broken_utf8": "not UTF-8",
    "broken_json": "not a line of JSON",
    "no_text": "JSON without `text`",
    "not_text": "`text` is no string, or holds half a character",
    "empty": "no character but white space",
    "too_long": "longer than corpus.longest_mib",
    "damaged_file": "a file that breaks off or cannot be read; what was read of it before stays",
    "empty_file": "a file without a byte",
}


@dataclass(frozen=True)
class TaskInput:
    """What one task reads of a file: bytes or row groups `start` to `stop`; `stop` None is the end, `whole` one document."""

    path: str
    name: str  # in ids and reports
    start: int = 0
    stop: int | None = None
    whole: bool = False


@dataclass(frozen=True)
class Read:
    """A document. `id` is the file's name and the place in it; `source` the record's own field of that name."""

    id: str
    text: str
    source: str = ""


@dataclass(frozen=True)
class Rejected:
    """What is none: one of `REASONS`, where, and what it looks like."""

    id: str
    reason: str
    excerpt: str


def read(part: TaskInput, longest: int) -> Iterator[Read | Rejected]:
    """All that a part holds, in its order.

    Args:
        longest: bytes of a line or a document.
    """
    path, part = Path(part.path), replace(part, name=_encodable(part.name))
    place = None
    try:
        if path.stat().st_size == 0:
            yield Rejected(part.name, "empty_file", "")
        elif path.suffix == ".parquet":
            for at, one in _rows(part, longest):
                place = at
                yield one
        elif part.whole:
            with lines.opened(path) as stream:
                content = stream.read(longest + 1)
            yield _too_long(part.name, content) if len(content) > longest else _text(part.name, content.removeprefix(lines.BOM))
        else:
            with lines.opened(path) as stream:
                for line in lines.read(stream, longest, part.start, part.stop):
                    place = line.position
                    yield _line(f"{part.name}:{place}", line.content, ".jsonl" in path.suffixes, longest)
    except _damages(path) as error:
        where = part.name if place is None else f"{part.name}:{place}"
        yield Rejected(where, "damaged_file", f"{type(error).__name__}: {error}")


def _damages(path: Path) -> tuple[type[Exception], ...]:
    if path.suffix == ".parquet":
        import pyarrow

        return (OSError, pyarrow.ArrowException)
    return lines.damages(path)


def _line(id: str, line: bytes | None, is_json: bool, longest: int) -> Read | Rejected:
    if line is None:
        return Rejected(id, "too_long", f"more than {longest:,} bytes")
    if not is_json:
        return _text(id, line)
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError:
        return Rejected(id, "broken_utf8", _excerpt(line))
    except (ValueError, RecursionError):
        return Rejected(id, "broken_json", _excerpt(line))
    if not isinstance(record, dict) or record.get("text") is None:
        return Rejected(id, "no_text", _excerpt(line))
    source = record.get("source")
    return _checked(id, record["text"], source if isinstance(source, str) else "")


def _text(id: str, content: bytes) -> Read | Rejected:
    try:
        return _checked(id, content.decode())
    except UnicodeDecodeError:
        return Rejected(id, "broken_utf8", _excerpt(content))


def _checked(id: str, text: object, source: str = "") -> Read | Rejected:
    if not isinstance(text, str):
        return Rejected(id, "not_text", _encodable(str(text)[:EXCERPT]))
    if not text or text.isspace():
        return Rejected(id, "empty", "")
    try:
        text.encode()
    except UnicodeEncodeError:  # half a UTF-16 pair
        return Rejected(id, "not_text", _encodable(text[:EXCERPT]))
    return Read(id, text, _encodable(source))


def _encodable(text: str) -> str:
    """With half a UTF-16 pair, or a byte of a file's name that is no UTF-8, spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _too_long(id: str, content: bytes) -> Rejected:
    return Rejected(id, "too_long", _excerpt(content))


def _excerpt(content: bytes) -> str:
    return content[:EXCERPT].decode("utf-8", "backslashreplace").strip()


def _rows(part: TaskInput, longest: int) -> Iterator[tuple[int, Read | Rejected]]:
    from pyarrow import parquet

    with open(part.path, "rb") as stream, parquet.ParquetFile(stream) as file:  # pyarrow opens no name that is not UTF-8
        groups = list(range(part.start, file.num_row_groups if part.stop is None else part.stop))
        place = sum(file.metadata.row_group(group).num_rows for group in range(part.start))
        columns = [name for name in ("text", "source") if name in file.schema_arrow.names]
        for batch in file.iter_batches(documents.ROWS, row_groups=groups, columns=columns) if groups else ():
            for record in _records(batch):
                yield place, _row(f"{part.name}:{place}", record, longest)
                place += 1


def _records(batch) -> list[dict | None]:
    """Rows of an Arrow batch, None for one that is not UTF-8: writers do not all look."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        half = batch.num_rows // 2
        return _records(batch.slice(0, half)) + _records(batch.slice(half))


def _row(id: str, record: dict | None, longest: int) -> Read | Rejected:
    if record is None:
        return Rejected(id, "broken_utf8", "")
    text, source = record.get("text"), record.get("source")
    if text is None:
        return Rejected(id, "no_text", "")
    if isinstance(text, str) and len(text) > longest:
        return Rejected(id, "too_long", text[:EXCERPT])
    return _checked(id, text, source if isinstance(source, str) else "")
