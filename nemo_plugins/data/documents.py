"""Documents of text files: JSON lines, plain lines, Parquet; plain, gzip or zstd; whole files or a part of one.

A document is the `text` of a line of `.jsonl`, a line of `.txt` (`lines.read`), or a row of the column `text` of `.parquet`;
an empty one is none. Text that cannot be read is refused here, with its place: counting and skipping it is the work of
`recipes/data.py`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nemo_plugins.data import lines
from nemo_plugins.data.lines import COMPRESSED, Line, opened
from nemo_plugins.runs.errors import UserError

SUFFIXES = tuple(f"{kind}{packed}" for kind in (".jsonl", ".txt") for packed in ("", *COMPRESSED)) + (".parquet",)
ROWS = 1024  # of a Parquet file in memory at once
CLEAN = "recipes/data.py counts such documents and leaves them out"


@dataclass(frozen=True)
class FilePiece:
    """A piece of a file that one process reads: bytes or row groups `start` to `stop`, or lines that were read already.

    The lines of a range of bytes are those that begin in it.
    """

    path: Path
    start: int
    stop: int
    lines: tuple[Line, ...] | None = None  # of a compressed file, which cannot be entered in the middle


def shards(path: str | Path) -> list[Path]:
    """The file itself, or the text files of a folder and its folders in the order of their names.

    Raises:
        UserError: there is none, or a folder is a link, which would not be entered.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    for link in path.rglob("*"):
        if link.is_symlink() and link.is_dir():
            raise UserError(
                f"{link} is a link to a folder and would not be read", f"name {link.resolve()} as a source of its own"
            )
    files = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
    if not files:
        raise UserError(f"{path} holds no text", f"expected files that end in {', '.join(SUFFIXES)}")
    return files


def documents(path: str | Path) -> Iterator[str]:
    """Documents of a text file or of a folder of them, in order, in the memory of a few. Raises UserError naming the place."""
    for file in shards(path):
        if file.suffix == ".parquet":
            yield from _rows(file, 0, None)
        else:
            with opened(file) as stream:
                yield from _texts(file, _whole(file, stream))


def parts(path: str | Path, size: int) -> Iterator[FilePiece]:
    """All of a file or folder in parts of about `size` bytes of text, in order, whoever reads them.

    Plain text and Parquet are only looked at; compressed text is unpacked here, and its parts carry their lines.
    """
    for file in shards(path):
        if file.suffix == ".parquet":
            yield from _row_groups(file, size)
        elif file.suffix in COMPRESSED:
            with opened(file) as stream:
                start, held = 0, []
                for line in _whole(file, stream):
                    held.append(line)
                    if (stop := line.position + line.size) - start >= size:
                        yield FilePiece(file, start, stop, tuple(held))
                        start, held = stop, []
                if held:
                    yield FilePiece(file, start, stop, tuple(held))
        else:
            end = file.stat().st_size
            yield from (FilePiece(file, start, min(start + size, end)) for start in range(0, end, size))


def read(part: FilePiece) -> Iterator[str]:
    """Documents of a part. Raises UserError naming the place."""
    if part.path.suffix == ".parquet":
        yield from _rows(part.path, part.start, part.stop)
    elif part.lines is not None:
        yield from _texts(part.path, part.lines)
    else:
        with open(part.path, "rb") as stream:
            yield from _texts(part.path, lines.read(stream, start=part.start, stop=part.stop))


def _whole(path: Path, stream: io.BufferedIOBase) -> Iterator[Line]:
    """The lines of a whole file. Raises UserError where it breaks off."""
    position = 0
    try:
        for line in lines.read(stream):
            position = line.position
            yield line
    except lines.damages(path) as error:
        raise UserError(
            f"{path} breaks off or is damaged after byte {position:,} of its text: {error}", "expected a whole file"
        ) from error


def _texts(path: Path, lines_read: Iterable[Line]) -> Iterator[str]:
    is_json = ".jsonl" in path.suffixes
    for line in lines_read:
        try:
            text = line.whole.decode()
            if is_json:
                text = json.loads(text)["text"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:  # broken UTF-8, broken JSON, no `text`
            kind = "a line of JSON with `text`" if is_json else "UTF-8"
            what = f"{type(error).__name__}: {error}"
            raise UserError(f"{path}, line at byte {line.position:,}: {what}", f"expected {kind}; {CLEAN}") from error
        yield from _checked(text, f"{path}, line at byte {line.position:,}")


def _checked(text: object, where: str) -> Iterator[str]:
    """The text unless it is empty. Raises UserError where it is no text, or holds half a UTF-16 pair, which is no character."""
    try:
        if text is not None and not isinstance(text, str):
            raise TypeError(f"`text` is {type(text).__name__}")
        if not text:
            return
        text.encode()
    except (TypeError, UnicodeEncodeError) as error:
        raise UserError(f"{where}: {error}", f"expected valid text; {CLEAN}") from error
    yield text


def _parquet(path: Path):
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} is not a whole Parquet file: {error}") from error
    if "text" not in file.schema_arrow.names:
        raise UserError(f"{path} has the columns {', '.join(file.schema_arrow.names)}", "expected one named text")
    return file


def _row_groups(path: Path, size: int) -> Iterator[FilePiece]:
    """Row groups in runs of about `size` bytes; a run's boundaries are numbers of row groups."""
    with _parquet(path) as file:
        start, held = 0, 0
        for group in range(file.num_row_groups):
            held += file.metadata.row_group(group).total_byte_size
            if held >= size or group + 1 == file.num_row_groups:
                yield FilePiece(path, start, group + 1)
                start, held = group + 1, 0


def _rows(path: Path, start: int, stop: int | None) -> Iterator[str]:
    with _parquet(path) as file:
        groups = list(range(start, file.num_row_groups if stop is None else stop))
        for batch in file.iter_batches(ROWS, row_groups=groups, columns=["text"]) if groups else ():
            for text in batch.column(0).to_pylist():
                yield from _checked(text, f"{path}, row groups {groups[0]} to {groups[-1]}")
