"""What a task has counted: documents by reason, histograms, and dropped documents for a person to read."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from nemo_plugins.runs.folder import write

CHARACTERS = 1000  # of a dropped document in the samples
OCTAVE = 4  # bins of a length for each doubling
SHARES = 50  # bins of a probability


class DocumentCounts:
    """Counts of one task, or of all tasks of a stage.

    Attributes:
        counts: by name; the documents that came in are `in`, those that went on `out`, the rest reasons.
        histograms: by name, occupied bins (`length_bin`, `share_bin`).
        named: counts by free names, e.g. of languages or of evaluation items, by what they are.
        samples: by reason, dropped documents: `id`, `detail`, `text`.
    """

    def __init__(self, samples: int = 20):
        self.most = samples
        self.counts: Counter[str] = Counter()
        self.histograms: dict[str, Counter[int]] = defaultdict(Counter)
        self.named: dict[str, Counter[str]] = defaultdict(Counter)
        self.samples: dict[str, list[dict[str, str]]] = defaultdict(list)

    def drop(self, reason: str, id: str, text: str, detail: str = "") -> None:
        """Count a document that goes no further; the first few of a reason are kept to be read."""
        self.counts[reason] += 1
        if len(self.samples[reason]) < self.most:
            self.samples[reason].append({"id": id, "detail": detail, "text": text[:CHARACTERS]})

    def length(self, name: str, text: str) -> None:
        self.histograms[name][length_bin(len(text))] += 1

    def save(self, path: Path) -> None:
        content = {
            "counts": dict(sorted(self.counts.items())),
            "histograms": {name: dict(sorted(bins.items())) for name, bins in sorted(self.histograms.items())},
            "named": {name: dict(sorted(found.items())) for name, found in sorted(self.named.items())},
            "samples": dict(sorted(self.samples.items())),
        }
        write(path, json.dumps(content, ensure_ascii=False))


def merged(files: Iterable[Path], samples: int) -> DocumentCounts:
    """The sum of what tasks have saved, in their order; `samples` of each reason, spread over the tasks."""
    whole = DocumentCounts(samples)
    by_task: dict[str, list[list[dict[str, str]]]] = defaultdict(list)
    for file in files:
        one = json.loads(file.read_text())
        whole.counts.update(one["counts"])
        for name, bins in one["histograms"].items():
            whole.histograms[name].update({int(place): count for place, count in bins.items()})
        for name, found in one["named"].items():
            whole.named[name].update(found)
        for reason, kept in one["samples"].items():
            by_task[reason].append(kept)
    for reason, tasks in by_task.items():
        turns = (task[place] for place in range(samples) for task in tasks if place < len(task))
        whole.samples[reason] = [sample for _, sample in zip(range(samples), turns, strict=False)]
    return whole


def length_bin(length: int) -> int:
    """Bin of a length in characters: `OCTAVE` bins for each doubling."""
    return int(OCTAVE * math.log2(length)) if length else 0


def length_of(bin: int) -> float:
    """Where a bin of lengths begins, characters."""
    return 2 ** (bin / OCTAVE)


def share_bin(share: float) -> int:
    """Bin of a probability, 0 to `SHARES` - 1."""
    return min(SHARES - 1, max(0, int(share * SHARES)))
