"""From the sources that a configuration names to what each task reads: the same list wherever and however often it is made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nemo_plugins.data import documents, lines
from nemo_plugins.data.corpus.reading import TaskInput
from nemo_plugins.runs import paths
from nemo_plugins.runs.atomic import whole, write
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.fingerprint import changed, fingerprint

HUB = "hf:"
UNPACKED = 3  # how much larger text is than its compressed file, at least
SHOWN = 10  # files that differ, in a message
ROWS = 10_000  # of a data set from the hub in one file


def is_dataset(source: str) -> bool:
    """Whether a source names a data set of the `datasets` library rather than files."""
    return source.startswith(HUB)


def fetch(source: str, folder: Path) -> Path:
    """A data set as Parquet files in a folder of its own, fetched once. Returns that folder.

    Args:
        source: `hf:<data set>[:<configuration>[:<split>]]`, the split `train` where none is named.

    Raises:
        UserError: it cannot be had, or has no column `text`.
    """
    name, configuration, split = (source.removeprefix(HUB).split(":") + ["", ""])[:3]
    to = folder / "-".join(part.strip("/").replace("/", "_") for part in (name, configuration, split) if part)
    if to.is_dir():
        return to
    import datasets

    try:
        rows = datasets.load_dataset(name, configuration or None, split=split or "train")
    except Exception as error:  # the library raises whatever its HTTP client does
        raise UserError(
            f"corpus: {source}: {type(error).__name__}: {error}",
            "expected a data set of the hub, as hf:<name>:<configuration>:<split>; its token, if any, from HF_TOKEN",
            "on a machine without internet: fetch it elsewhere and give the files, or set HF_HOME to a cache that has it",
        ) from None
    with whole(to) as partial:
        for number, start in enumerate(range(0, len(rows), ROWS)):
            rows.select(range(start, min(start + ROWS, len(rows)))).to_parquet(partial / f"{number:05d}.parquet")
    return to


def parts(sources: Sequence[str | Path], size: int, whole: bool) -> list[TaskInput]:
    """Every file of the sources in parts of about `size` bytes, in the order of the sources and of their files' names.

    Args:
        whole: a `.txt` file is one document.

    Raises:
        UserError: a source that is not there, or Parquet without a column `text`: none of its documents could be read.
    """
    parts_read: list[TaskInput] = []
    taken: dict[str, int] = {}
    for source in sources:
        path = paths.resolve(source)
        if not path.exists():
            raise UserError(f"corpus.sources: no file or folder {source}", f"expected {', '.join(documents.SUFFIXES)}")
        for file in documents.shards(path):
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            taken[name] = taken.get(name, 0) + 1  # of two sources with a file of one name the second is told apart
            parts_read += _parts(file, name if taken[name] == 1 else f"{name}#{taken[name]}", size, whole)
    return parts_read


def _parts(file: Path, name: str, size: int, whole: bool) -> Iterable[TaskInput]:
    length = file.stat().st_size
    if file.suffix == ".parquet" and length:
        return _row_groups(file, name, size)
    if whole and ".txt" in file.suffixes:
        return [TaskInput(str(file), name, whole=True)]
    if file.suffix in documents.COMPRESSED or length <= size:
        return [TaskInput(str(file), name)]
    return [TaskInput(str(file), name, start, min(start + size, length)) for start in range(0, length, size)]


def _row_groups(file: Path, name: str, size: int) -> Iterable[TaskInput]:
    import pyarrow
    from pyarrow import parquet

    try:
        with open(file, "rb") as stream, parquet.ParquetFile(stream) as opened:
            if "text" not in opened.schema_arrow.names:
                raise UserError(f"{file} has the columns {', '.join(opened.schema_arrow.names)}", "expected one named text")
            groups = [opened.metadata.row_group(number).total_byte_size for number in range(opened.num_row_groups)]
    except (OSError, pyarrow.ArrowException):
        return [TaskInput(str(file), name)]  # reading it counts it as damaged
    made, start, held = [], 0, 0
    for number, bytes_there in enumerate(groups):
        held += bytes_there
        if held >= size or number + 1 == len(groups):
            made.append(TaskInput(str(file), name, start, number + 1))
            start, held = number + 1, 0
    return made


def tasks(parts: Sequence[TaskInput], size: int) -> list[list[TaskInput]]:
    """The parts in runs of about `size` bytes of text, at least one: what each task reads."""
    made: list[list[TaskInput]] = [[]]
    held = 0
    for part in parts:
        if held >= size:
            made.append([])
            held = 0
        made[-1].append(part)
        held += _bytes(part)
    return made


def _bytes(part: TaskInput) -> int:
    if part.stop is not None and not part.path.endswith(".parquet"):
        return part.stop - part.start
    packed = part.path.endswith((*documents.COMPRESSED, ".parquet"))
    return Path(part.path).stat().st_size * (UNPACKED if packed else 1)


def save(path: Path, tasks: Sequence[Sequence[TaskInput]]) -> None:
    """Write what each task reads, with fingerprints of the files.

    Raises:
        UserError: the file is there from an attempt that was stopped, and says something else.
    """
    files = sorted({part.path for task in tasks for part in task})
    content: dict[str, Any] = {
        "files": {file: fingerprint(file) for file in files},
        "tasks": [[asdict(part) for part in task] for task in tasks],
    }
    if path.is_file():
        if (before := json.loads(path.read_text())) != content:
            marks = {file: before["files"].get(file) for file in files}
            differ = [f"  {file} {changed(then, now) if then else 'is new'}"
                      for file, then in marks.items() if then != (now := content["files"][file])]  # fmt: skip
            differ += [f"  {file} is no longer among them" for file in before["files"] if file not in marks]
            raise UserError(
                f"{path.parent.parent} was begun with other sources: files have changed since",
                *differ[:SHOWN],
                "force=true moves the folder aside and begins again",
            )
        return
    write(path, json.dumps(content))


def load(path: Path) -> list[list[TaskInput]]:
    """What each task reads."""
    return [[TaskInput(**part) for part in task] for task in json.loads(path.read_text())["tasks"]]


def save_items(source: str, folder: Path, number: int, fetched: Path) -> None:
    """Put evaluation items where every task finds them: a JSONL file as it is, a data set of the hub as JSONL.

    Raises:
        UserError: there are none.
    """
    if is_dataset(source):
        from pyarrow import parquet

        files = sorted(fetch(source, fetched).glob("*.parquet"))
        rows = (record for file in files for record in parquet.read_table(file).to_pylist())
        write(
            folder / f"{number:03d}.jsonl",
            "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in rows),
        )
        return
    path = paths.resolve(source)
    if not path.is_file():
        raise UserError(f"corpus.decontamination.items: no file {source}", "expected JSONL, an evaluation item a line")
    write(folder / f"{number:03d}.jsonl{path.suffix if path.suffix in lines.COMPRESSED else ''}", path.read_bytes())
