"""Lines of `.txt` and `.jsonl` files, plain, gzip or zstd: one way for all that read them.

A line ends in a newline, with or without a carriage return. A byte order mark at its beginning is no part of it: editors begin
files with one, and files are joined. A line with no character but white space lies between lines and is skipped.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

COMPRESSED = (".gz", ".zst")
JSON_LINES = tuple(f".jsonl{packed}" for packed in ("", *COMPRESSED))
BOM = b"\xef\xbb\xbf"
CHUNK = 1 << 20  # bytes in which a line that is too long is skipped


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        number: from 1 in the file, or in the part of it that is read; skipped lines count.
        position: of its first byte in the unpacked file; size: its bytes there, with its end.
        content: its bytes without byte order mark and end; None where they are more than allowed.
    """

    number: int
    position: int
    size: int
    content: bytes | None

    @property
    def whole(self) -> bytes:
        """`content` of a line that may be of any length. Raises ValueError where it was longer than allowed."""
        if self.content is None:
            raise ValueError(f"a line of {self.size:,} bytes is too long")
        return self.content


def read(stream: io.BufferedIOBase, longest: int | None = None, start: int = 0, stop: int | None = None) -> Iterator[Line]:
    """The lines of an open file, in the memory of one.

    Args:
        longest: bytes of a line that is read; of a longer one `content` is None.
        start, stop: only lines that begin in this range of bytes. A stream that cannot seek is read from its beginning.

    Raises:
        EOFError, OSError, ...: `damages`, of a compressed file that breaks off.
    """
    if start:
        stream.seek(start - 1)
        skip(stream)  # the end of a line that belongs to the part before; just its newline where one begins at `start`
    position, number = stream.tell() if start else 0, 0
    while stop is None or position < stop:
        line = stream.readline(-1 if longest is None else longest + 1)
        if not line:
            return
        number, size = number + 1, len(line)
        content: bytes | None = line.removeprefix(BOM).rstrip(b"\r\n")
        if longest is not None and size > longest and not line.endswith(b"\n"):
            size, content = size + skip(stream), None
        if content is None or not is_blank(content):
            yield Line(number, position, size, content)
        position += size


def is_blank(content: bytes) -> bool:
    """Whether a line holds no character but white space, a no-break space or another of Unicode among them."""
    inside = content.strip()
    if not inside or not inside[:4].decode("utf-8", "ignore")[:1].isspace():
        return not inside
    try:
        return inside.decode().isspace()
    except UnicodeDecodeError:
        return False


def skip(stream: io.BufferedIOBase) -> int:
    """Read to the end of the line. Returns how many bytes that were."""
    size = 0
    while chunk := stream.readline(CHUNK):
        size += len(chunk)
        if chunk.endswith(b"\n"):
            break
    return size


def enter(stream: io.BufferedIOBase, start: int) -> None:
    """Go to a byte of a file that was just opened; what is compressed is unpacked up to there."""
    if stream.seekable():
        stream.seek(start)
        return
    while start and (skipped := len(stream.read(min(start, CHUNK)))):
        start -= skipped


def strings(value: object) -> Iterator[str]:
    """The texts in what a line of JSON holds, without its keys, in their order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def opened(path: Path) -> io.BufferedIOBase:
    """The bytes of a file, unpacked."""
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return io.BufferedReader(_Zstd(path), 1 << 20) if path.suffix == ".zst" else open(path, "rb")


def damages(path: Path) -> tuple[type[Exception], ...]:
    """What reading a file raises where it breaks off or is damaged."""
    if path.suffix != ".zst":
        return (EOFError, OSError, zlib.error)
    import zstandard

    return (EOFError, OSError, zstandard.ZstdError)


class _Zstd(io.RawIOBase):
    """The text of all frames of a file; one that is cut short raises EOFError, as gzip's does (zstandard's own just ends)."""

    def __init__(self, path: Path):
        import zstandard

        self.frame = zstandard.ZstdDecompressor().decompressobj
        self.file = open(path, "rb")
        self.open: Any = None  # what unpacks the frame that is being read
        self.packed = b""
        self.text = memoryview(b"")

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
