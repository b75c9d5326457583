"""Records between the stages and after them: JSON lines in zstd, a file a task, whole under its name or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

LEVEL = 3


class Store:
    """Writes one file; it has its name once `close` has been called, as the end of a `with` without an error does."""

    def __init__(self, path: Path):
        self.path, self.partial = path, path.with_name(f".{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.partial, "wb")
        self.stream = zstandard.ZstdCompressor(level=LEVEL).stream_writer(self.file, closefd=False)

    def write(self, record: dict[str, Any]) -> None:
        self.stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        self.stream.close()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.partial, self.path)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
        else:
            self.file.close()


def records(path: Path) -> Iterator[dict[str, Any]]:
    """What a store holds, in its order, in the memory of a few."""
    import io

    with open(path, "rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
        for line in io.BufferedReader(stream, 1 << 20):
            yield json.loads(line)


def path(folder: Path | str, task: int) -> Path:
    """File of a task."""
    return Path(folder) / f"{task:05d}.jsonl.zst"
