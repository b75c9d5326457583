"""Documents of text files: JSON lines, plain lines, Parquet; plain, gzip or zstd; whole files or a part of one.

A document is the `text` of a line of `.jsonl`, a non-empty line of `.txt`, or a row of the column `text` of `.parquet`. Text
that cannot be read is refused here, with its place: counting and skipping it is the work of `recipes/data.py`.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nemo_plugins.runs.errors import UserError

COMPRESSED = (".gz", ".zst")
SUFFIXES = tuple(f"{kind}{packed}" for kind in (".jsonl", ".txt") for packed in ("", *COMPRESSED)) + (".parquet",)
ROWS = 1024  # of a Parquet file in memory at once
CLEAN = "recipes/data.py counts such documents and leaves them out"


@dataclass(frozen=True)
class Part:
    """A piece of a file that one process reads: bytes or row groups `start` to `stop`, or lines that were read already.

    The lines of a range of bytes are those that begin in it.
    """

    path: Path
    start: int
    stop: int
    lines: tuple[bytes, ...] | None = None  # of a compressed file, which cannot be entered in the middle


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
    found = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
    if not found:
        raise UserError(f"{path} holds no text", f"expected files that end in {', '.join(SUFFIXES)}")
    return found


def documents(path: str | Path) -> Iterator[str]:
    """Documents of a text file or of a folder of them, in order, in the memory of a few. Raises UserError naming the place."""
    for file in shards(path):
        if file.suffix == ".parquet":
            yield from _rows(file, 0, None)
        else:
            with opened(file) as stream:
                yield from _texts(file, _whole_lines(file, stream))


def parts(path: str | Path, size: int) -> Iterator[Part]:
    """All of a file or folder in parts of about `size` bytes of text, in order, whoever reads them.

    Plain text and Parquet are only looked at; compressed text is unpacked here, and its parts carry their lines.
    """
    for file in shards(path):
        if file.suffix == ".parquet":
            yield from _row_groups(file, size)
        elif file.suffix in COMPRESSED:
            with opened(file) as stream:
                start, lines = 0, []
                for position, line in _whole_lines(file, stream):
                    lines.append(line)
                    if (stop := position + len(line)) - start >= size:
                        yield Part(file, start, stop, tuple(lines))
                        start, lines = stop, []
                if lines:
                    yield Part(file, start, start + sum(map(len, lines)), tuple(lines))
        else:
            end = file.stat().st_size
            yield from (Part(file, start, min(start + size, end)) for start in range(0, end, size))


def read(part: Part) -> Iterator[str]:
    """Documents of a part. Raises UserError naming the place."""
    if part.path.suffix == ".parquet":
        yield from _rows(part.path, part.start, part.stop)
    elif part.lines is not None:
        yield from _texts(part.path, _positions(part.lines, part.start))
    else:
        with open(part.path, "rb") as stream:
            yield from _texts(part.path, _range(stream, part.start, part.stop))


class _Zstd(io.RawIOBase):
    """The text of all frames of a file; one that is cut short raises EOFError, as gzip's does (zstandard's own just ends)."""

    def __init__(self, path: Path):
        import zstandard

        self.frame = zstandard.ZstdDecompressor().decompressobj
        self.file, self.open, self.packed, self.text = open(path, "rb"), None, b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into) -> int:
        while not self.text:
            packed = self.packed or self.file.read(1 << 16)
            if not packed:
                if self.open is not None:
                    raise EOFError("the file ends within a frame")
                return 0
            self.open = self.open or self.frame()
            self.text, self.packed = memoryview(self.open.decompress(packed)), b""
            if self.open.eof:
                self.packed, self.open = self.open.unused_data, None
        size = min(len(into), len(self.text))
        into[:size], self.text = self.text[:size], self.text[size:]
        return size

    def close(self) -> None:
        self.file.close()
        super().close()


def opened(path: Path) -> BinaryIO:
    """The bytes of a text file, unpacked."""
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return io.BufferedReader(_Zstd(path), 1 << 20) if path.suffix == ".zst" else open(path, "rb")


def _positions(lines: Iterable[bytes], position: int = 0) -> Iterator[tuple[int, bytes]]:
    for line in lines:
        yield position, line
        position += len(line)


def _whole_lines(path: Path, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with the positions where they begin."""
    position = 0
    try:
        for position, line in _positions(stream):
            yield position, line
    except (EOFError, OSError, zlib.error, *_zstd_errors(path)) as error:
        raise UserError(
            f"{path} breaks off or is damaged after byte {position:,} of its text: {error}", "expected a whole file"
        ) from error


def _zstd_errors(path: Path) -> tuple[type[Exception], ...]:
    if path.suffix != ".zst":
        return ()
    import zstandard

    return (zstandard.ZstdError,)


def _range(stream: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    stream.seek(max(0, start - 1))
    if start:
        stream.readline()  # the end of a line that belongs to the part before; just its newline where one begins at `start`
    position = stream.tell()
    while position < stop and (line := stream.readline()):
        yield position, line
        position += len(line)


def _texts(path: Path, lines: Iterable[tuple[int, bytes]]) -> Iterator[str]:
    is_json = ".jsonl" in path.suffixes
    for position, line in lines:
        try:
            text = line.decode().rstrip("\r\n")
            if is_json and text:
                text = json.loads(text)["text"]
        except (ValueError, LookupError, TypeError) as error:  # broken UTF-8, broken JSON, no `text`
            kind = "a line of JSON with `text`" if is_json else "UTF-8"
            what = f"{type(error).__name__}: {error}"
            raise UserError(f"{path}, line at byte {position:,}: {what}", f"expected {kind}; {CLEAN}") from error
        yield from _checked(text, f"{path}, line at byte {position:,}")


def _checked(text: object, where: str) -> Iterator[str]:
    """The text unless it is empty. Raises UserError where it is no text, or holds half a UTF-16 pair, which is no character."""
    if not text:
        return
    try:
        if not isinstance(text, str):
            raise TypeError(f"`text` is {type(text).__name__}")
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


def _row_groups(path: Path, size: int) -> Iterator[Part]:
    """Row groups in runs of about `size` bytes; a run's boundaries are numbers of row groups."""
    with _parquet(path) as file:
        start, held = 0, 0
        for group in range(file.num_row_groups):
            held += file.metadata.row_group(group).total_byte_size
            if held >= size or group + 1 == file.num_row_groups:
                yield Part(path, start, group + 1)
                start, held = group + 1, 0


def _rows(path: Path, start: int, stop: int | None) -> Iterator[str]:
    with _parquet(path) as file:
        groups = list(range(start, file.num_row_groups if stop is None else stop))
        for batch in file.iter_batches(ROWS, row_groups=groups, columns=["text"]) if groups else ():
            for text in batch.column(0).to_pylist():
                yield from _checked(text, f"{path}, row groups {groups[0]} to {groups[-1]}")
