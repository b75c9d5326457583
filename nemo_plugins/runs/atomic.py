"""A file that is there is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


def write(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it; a write that fails leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}")  # processes on two nodes may share a process id
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def whole(to: Path) -> Iterator[Path]:
    """A new folder that gets its name `to` once the block has ended well, in the place of one that is there.

    Of one process at a time: callers hold a lock, or the run's.
    """
    partial = to.with_name(f"{to.name}.partial")
    for leftover in (partial, to.with_name(f".{to.name}.partial")):  # the second was its name once
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    put_in_place(partial, to)


@contextmanager
def whole_file(to: Path) -> Iterator[Path]:
    """The name of a new file that gets its name `to` once the block has ended well; a block that fails leaves nothing.

    For writers that want a path; `write` writes what is in memory. Of one process at a time.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f".{to.name}.partial")
    try:
        yield partial
        partial.replace(to)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def put_in_place(partial: Path, to: Path) -> None:
    """Rename a folder that is now whole to its name; what an unfinished attempt left there is moved out of the way first."""
    discarded = to.with_name(f"{to.name}.discarded")
    if to.exists():
        shutil.rmtree(discarded, ignore_errors=True)
        to.rename(discarded)
    partial.rename(to)
    shutil.rmtree(discarded, ignore_errors=True)
