"""What tells one input from another: a hash of its whole content.

A large file is read whole once. Its hash is remembered under what an edit cannot leave as it was: path, inode, size, and the
times of its last change in nanoseconds, of which programs may set the content's (mtime) and none the inode's (ctime).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nemo_plugins.runs import locks, workers
from nemo_plugins.runs.atomic import write
from nemo_plugins.runs.errors import UserError

FORM = "b2-"  # before the digits
EARLIER = re.compile(r"[0-9a-f]{16}")  # a fingerprint of both ends of each file, as earlier versions noted
LARGE = 8 << 20  # bytes from which on a hash is remembered; a smaller file is read each time
LONG = 16 << 30  # bytes whose reading takes long enough to be announced
PIECE = 32 << 20  # bytes that one thread hashes
BUFFER = 1 << 20
THREADS = 16  # at most: some GB/s, what a disk gives
SETTLED = 2.0  # seconds since the last change: within the tick of a file system's clock another edit would go unseen
CARD = "README.md"
METADATA = ".metadata"  # of a distributed checkpoint: where its tensors lie


def fingerprint(path: str | Path) -> str:
    """`b2-` and 32 hexadecimal digits of a file or folder: relative names, sizes and contents.

    A Megatron prefix (`<prefix>.bin`, `<prefix>.idx`) counts as its two files. Time stamps and hidden files do not count, nor
    does a folder's model card: it is written when all the rest is done.

    Raises:
        FileNotFoundError: neither file, folder nor prefix.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, file in _files(Path(path)):
        size = file.stat().st_size
        content = _content(file) if size < LARGE else _remembered(file)
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape") + content)  # a name may be any bytes
    return FORM + digest.hexdigest()


def changed(then: str, now: str) -> str:
    """How an input that had another fingerprint differs, to go on a sentence that names it."""
    if EARLIER.fullmatch(then):
        return f"was noted by an earlier version, by its files' ends alone ({then}): whether it has changed cannot be told"
    return f"has changed since (fingerprint {then}, now {now})"


def described(mark: str) -> str:
    """A fingerprint that differs from another, for a message; one of an earlier version says so."""
    return f"{mark} (an earlier version's, of files' ends alone)" if EARLIER.fullmatch(mark) else mark


def _files(path: Path) -> list[tuple[str, Path]]:
    if path.is_dir():
        inside = ((file.relative_to(path), file) for file in path.rglob("*") if file.is_file() and file.name != CARD)
        return sorted((name.as_posix(), file) for name, file in inside if not any(map(_is_hidden, name.parts)))
    if path.is_file():
        return [("", path)]
    pair = [(suffix, path.with_name(path.name + suffix)) for suffix in (".bin", ".idx")]
    if all(file.is_file() for _, file in pair):
        return pair
    raise FileNotFoundError(f"no file or folder {path}")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") and name != METADATA


def _content(file: Path) -> bytes:
    """Hash of the hashes of a file's pieces, which threads share."""
    starts = range(0, max(file.stat().st_size, 1), PIECE)
    if len(starts) == 1:
        return _combined([_piece(file, 0)])
    with ThreadPoolExecutor(min(THREADS, workers.cores())) as pool:
        return _combined(pool.map(lambda start: _piece(file, start), starts))


def _combined(pieces) -> bytes:
    return hashlib.blake2b(b"".join(pieces), digest_size=32).digest()


def _piece(file: Path, start: int) -> bytes:
    digest, buffer, left = hashlib.blake2b(digest_size=32), memoryview(bytearray(BUFFER)), PIECE
    with file.open("rb", buffering=0) as stream:
        stream.seek(start)
        while left and (size := stream.readinto(buffer[: min(BUFFER, left)])):
            digest.update(buffer[:size])
            left -= size
    return digest.digest()


def _remembered(file: Path) -> bytes:
    """Hash of a large file; one process at a time reads it."""
    from nemo_plugins.runs import output

    file = file.resolve()
    note = _notes() / f"{hashlib.blake2b(os.fsencode(file), digest_size=16).hexdigest()}.json"
    if known := _noted(note, _state(file)):
        return known
    with _locked(note):
        state, began = _state(file), time.time()
        if known := _noted(note, state):
            return known
        if state[1] >= LONG:
            output.say(f"reading {file} whole, {state[1] / 1e9:,.0f} GB: its fingerprint is remembered")
        content = _content(file)
        if state == _state(file) and began - max(state[-2:]) / 1e9 > SETTLED:
            _note(note, {"file": os.fsdecode(file), "state": state, "content": content.hex()})
    return content


def _state(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _notes() -> Path:
    home = os.path.expanduser("~")  # stays "~" in a container whose user has no home
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(home if home != "~" else tempfile.gettempdir(), ".cache")
    return Path(cache) / "minitron" / "fingerprints"


def _noted(note: Path, state: list[int]) -> bytes | None:
    try:
        content = json.loads(note.read_text())
        return bytes.fromhex(content["content"]) if content["state"] == state else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _note(note: Path, content: dict) -> None:
    with contextlib.suppress(OSError):  # a home that cannot be written, or is full: the file is read again next time
        write(note, json.dumps(content))


@contextlib.contextmanager
def _locked(note: Path) -> Iterator[None]:
    """Hold the lock of a note; where there can be none, each process reads for itself."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, UserError):
            note.parent.mkdir(parents=True, exist_ok=True)
            locks.take(held.enter_context(note.with_suffix(".lock").open("w")))
        yield
