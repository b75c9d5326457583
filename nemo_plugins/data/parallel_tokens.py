"""Large text to tokens with all cores: parts in processes of their own, then one `.bin/.idx` pair in the order of the text.

The result is byte for byte that of `tokens.write`, whatever the number of processes: a part is only a run of whole documents.
A part that is there is whole, so that what was killed goes on with the parts that are missing. Each process holds a batch of
documents; the parent holds what is on its way of a compressed text, at most `AHEAD` parts a process, and at the end
megatron-core's builder some 150 bytes a document.

The processes import neither torch nor megatron-core, whose start would take each of them longer than tens of megabytes of text:
a part is plain ids and plain lengths, and megatron-core's builder writes the pair in the parent.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.data import documents, tokens
from nemo_plugins.runs.workers import cores

PARTS = 256  # that a text is cut into, so that no process has much left to do when the others are done,
SMALLEST, LARGEST = 1 << 20, 16 << 20  # in parts of at least and at most so many bytes of text
AHEAD = 2  # parts handed out for each process
WORTH = 32 << 20  # bytes of files from which on the seconds that processes take to start are won back
UNPACKED = 3  # how much larger text is than its compressed file, at least
COPIED = 1 << 22  # bytes at once
LENGTHS = ".lengths"  # of a part's documents, int32, beside its `.bin` of ids


def is_worth(path: str | Path) -> bool:
    """Whether a text is large enough for several processes, as its files' sizes tell."""
    return text_bytes(path) >= WORTH


def text_bytes(path: str | Path) -> int:
    """Bytes of text of a file or folder, at least, as its files' sizes tell."""
    packed = (*documents.COMPRESSED, ".parquet")
    return sum(file.stat().st_size * (UNPACKED if file.suffix in packed else 1) for file in documents.shards(path))


def write(
    prefix: Path, path: str | Path, tokenizer, folder: Path, processes: int | None = None, part: int | None = None
) -> tokens.Tokens:
    """Tokenise a file, or a folder of them, into `prefix.bin` and `prefix.idx`.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        folder: of the finished parts, for this text and tokenizer alone; they are kept if this is interrupted.
        processes: default: one for each core.
        part: bytes of text in a part; default: by the size of the text. Another one than the folder was begun with makes all
            parts again.

    Raises:
        runs.UserError: text that cannot be read, with its place.
        runs.Failed: a process was killed, for example for want of memory.
    """
    encoder = tokens.Encoder.of(tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    part = part or min(max(text_bytes(path) // PARTS, SMALLEST), LARGEST)
    written: dict[int, tokens.Tokens] = {}
    with _Progress(Path(path).name) as progress:
        pool = ProcessPoolExecutor(
            processes or cores(), mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(encoder,)
        )  # spawned, not forked: this process may have threads of torch and of the tokenizer that a fork would leave locked
        try:
            for number, one, is_new in _run(pool, documents.parts(path, part), folder, part, processes or cores()):
                written[number] = one
                progress.add(one.tokens, is_new)
        except BrokenProcessPool as error:
            raise runs.Failed(
                f"tokenising {path}: a process was killed, perhaps for want of memory",
                f"{len(written)} finished parts are kept in {folder}: the same command goes on from them",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return _join(prefix, [written[number] for number in sorted(written)], encoder)


def _join(prefix: Path, parts: list[tokens.Tokens], encoder: tokens.Encoder) -> tokens.Tokens:
    """The pair of all parts, in their order, by megatron-core's builder.

    What its `add_index` does, without its full garbage collection for each part, which takes longer than the part.
    """
    import numpy as np
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=encoder.dtype)
    for part in parts:
        lengths = np.fromfile(part.prefix.with_suffix(LENGTHS), dtype=np.int32)
        first = len(builder.sequence_lengths)
        builder.sequence_lengths.extend(lengths.tolist())
        builder.document_indices.extend(range(first + 1, first + 1 + len(lengths)))  # a sequence each
        with part.prefix.with_suffix(".bin").open("rb") as ids:
            shutil.copyfileobj(ids, builder.data_file, COPIED)
    builder.finalize(f"{prefix}.idx")
    return tokens.Tokens(Path(prefix), sum(one.documents for one in parts), sum(one.tokens for one in parts))


def _run(
    pool: ProcessPoolExecutor, parts: Iterator[documents.FilePiece], folder: Path, size: int, processes: int
) -> Iterator[tuple[int, tokens.Tokens, bool]]:
    """Numbers of parts from 0, their tokens and whether they are new, as they come."""
    running: dict[Future, int] = {}
    for number, part in enumerate(parts):
        prefix = folder / f"ids-{size}-{number:06d}"
        if (counts := prefix.with_suffix(".json")).is_file():
            yield number, tokens.Tokens(prefix, **json.loads(counts.read_text())), False
            continue
        running[pool.submit(_tokenise, part, prefix)] = number
        while len(running) >= AHEAD * processes:
            yield from _finished(running)
    while running:
        yield from _finished(running)


def _finished(running: dict[Future, int]) -> Iterator[tuple[int, tokens.Tokens, bool]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(future), future.result(), True


_encoder: tokens.Encoder | None = None  # of a worker process


def _start(encoder: tokens.Encoder) -> None:
    """Begin a worker process: one thread each, or as many as there are processes would fight for every core."""
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _encoder = encoder


def _tokenise(part: documents.FilePiece, prefix: Path) -> tokens.Tokens:
    """Write a part; its `.json` of counts comes last, and says that it is whole."""
    import numpy as np

    if _encoder is None:
        raise RuntimeError("_start has not run in this process")
    partial, dtype = prefix.with_suffix(".partial"), _encoder.dtype
    lengths = []
    with partial.open("wb") as file:
        for ids in _encoder(documents.read(part)):
            lengths.append(len(ids))
            file.write(np.array(ids, dtype=dtype).tobytes())
    os.replace(partial, prefix.with_suffix(".bin"))
    np.array(lengths, dtype=np.int32).tofile(partial)
    os.replace(partial, prefix.with_suffix(LENGTHS))
    counts = {"documents": len(lengths), "tokens": sum(lengths)}
    partial.write_text(json.dumps(counts))
    os.replace(partial, prefix.with_suffix(".json"))
    return tokens.Tokens(prefix, **counts)


class _Progress:
    """A line on the terminal with parts, tokens and tokens a second of this call."""

    def __init__(self, name: str):
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.bar = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=runs.console())
        self.name = name
        self.parts = 0
        self.tokens = 0
        self.new = 0
        self.started = time.monotonic()
        self.task = self.bar.add_task(f"{name}: starting")

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        self.bar.stop()

    def add(self, count: int, is_new: bool) -> None:
        self.parts, self.tokens, self.new = self.parts + 1, self.tokens + count, self.new + count * is_new
        speed = self.new / max(time.monotonic() - self.started, 1e-9)
        self.bar.update(
            self.task, description=f"{self.name}: {self.parts:,} parts, {self.tokens:,} tokens, {speed:,.0f} tokens/s"
        )
