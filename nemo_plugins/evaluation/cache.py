"""Results of a model on a task, kept for every run of a root: `<run.root>/.evaluations/<model>/<task>-<settings>.json`.

Beside each lies `….jsonl.gz`, what the model said to every item. A result is written after its samples and holds their hash, so
that one that is there is whole; one that is not is said to be so, and the task is run again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nemo_plugins.data import lines
from nemo_plugins.runs.folder import write

FOLDER = ".evaluations"


class Damaged(Exception):
    """A cached result cannot be used; the message says why."""


@dataclass
class Result:
    """A model on a task.

    Attributes:
        score, stderr: as lm-eval reports them.
        metrics: everything that lm-eval reports of the task, by metric and filter.
        items: their number.
        resampled: the score on each resample (`statistics.resampled`).
        seconds: that it took.
        settings: all that decides the score.
    """

    score: float
    stderr: float | None
    metrics: dict[str, Any]
    items: int
    resampled: list[float]
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)


def key(settings: dict[str, Any]) -> str:
    """12 hexadecimal digits of all that decides a score but for the model."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def place(root: Path, model: str, task: str, settings: dict[str, Any]) -> Path:
    """File of a result."""
    return root / FOLDER / model / f"{task}-{key(settings)}.json"


def samples_of(file: Path) -> Path:
    """The samples of a result."""
    return file.with_suffix(".jsonl.gz")


def keep(file: Path, result: Result, samples: list[dict[str, Any]]) -> None:
    """Write a result and its samples, whole or not at all."""
    lines = "".join(json.dumps(sample, ensure_ascii=False, default=_plain) + "\n" for sample in samples)
    packed = gzip.compress(lines.encode("utf-8", "replace"), mtime=0)
    write(samples_of(file), packed)
    body = asdict(result) | {"samples": hashlib.sha256(packed).hexdigest()}
    write(file, json.dumps(body, default=_plain) + "\n")


def load(file: Path) -> Result | None:
    """A result that is there and whole; None where there is none.

    Raises:
        Damaged: it is cut short, or its samples are.
    """
    if not file.is_file():
        return None
    try:
        body = json.loads(file.read_text())
        wanted = body.pop("samples")
        result = Result(**body)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Damaged(f"{file} cannot be read") from None
    packed = samples_of(file)
    if not packed.is_file() or hashlib.sha256(packed.read_bytes()).hexdigest() != wanted:
        raise Damaged(f"{packed} is not what was written")
    return result


def read_samples(file: Path) -> list[dict[str, Any]]:
    """Samples, one object an item."""
    with lines.opened(file) as stream:
        return [json.loads(line.whole) for line in lines.read(stream)]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
