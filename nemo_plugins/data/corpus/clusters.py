"""From pairs of documents that met in a bucket to clusters, and which document of each is kept.

A document is a number: those of the first task, then those of the second, … One task does it for the whole corpus, in arrays
and with the ids of the documents that stay and have duplicates. docs/data.md reckons what that takes for a billion documents.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np
from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep

from nemo_plugins.runs.errors import Failed


class Cluster(PipelineStep):
    """Says for each document that is dropped why and which one it repeats; one task for the corpus.

    Args:
        folder: that of `duplicates.stages`.
        buckets: of minimal hashes, without that of the whole text.
        tasks: that wrote the signatures.
    Raises: Failed where pairs of a bucket or documents of a task are missing.

    Writes `removed/{task:06d}.jsonl` and `summary.json` there. A document is "exact" where one before it in the input has the
    same text, else "near"; `duplicate_of` is the one that is kept. The input's order is by file, then by place in the file.
    """

    type = "🫂 - DEDUP"
    name = "clusters"

    def __init__(self, folder: str, buckets: int, tasks: int):
        super().__init__()
        self.folder = get_datafolder(folder)
        self.buckets, self.tasks = buckets, tasks

    def run(self, data=None, rank: int = 0, world_size: int = 1) -> None:
        with self.track_time():
            starts = np.cumsum([0, *(sum(1 for _ in self._documents(task)) for task in range(self.tasks))])
            near = np.arange(starts[-1])
            for bucket in range(self.buckets):
                near = joined(near, self._pairs(bucket, starts))
            whole_text = self._pairs(self.buckets, starts)
            near, exact = joined(near, whole_text), joined(np.arange(starts[-1]), whole_text)
            nodes = clustered(near)
            files = self._files(nodes, starts)
            stays = first(near, nodes, files)
            reasons = self._write(nodes, stays, first(exact, nodes, files) != nodes, starts)
            sizes = Counter(np.unique(stays, return_counts=True)[1].tolist())
            summary = {
                "documents": int(starts[-1]),
                "kept": int(starts[-1]) - reasons.total(),
                "exact": reasons["exact"],
                "near": reasons["near"],
                "cluster_sizes": {str(size): count for size, count in sorted(sizes.items())},
            }
            with self.folder.open("summary.json", mode="wt", encoding="utf-8") as file:
                json.dump(summary, file, indent=1)
            self.stat_update("to_remove", value=reasons.total())

    def _pairs(self, bucket: int, starts: np.ndarray) -> np.ndarray:
        """Numbers of the documents that met in a bucket, int64 `[pairs, 2]`."""
        path = f"pairs/{bucket:05d}_00.dups"
        if not self.folder.isfile(path):
            raise Failed(f"duplicates: {path} is missing", "expected: one file a bucket", "run duplicates_pairs to its end")
        with self.folder.open(path, mode="rb") as file:
            rows = np.frombuffer(file.read(), "<u4").reshape(-1, 2, 2)  # (task, place) of either
        return starts[rows[:, :, 0]] + rows[:, :, 1]

    def _documents(self, task: int) -> Iterator[str]:
        """A task's documents, `[id, file]` in JSON each."""
        path = f"documents/{task:05d}.jsonl"
        if not self.folder.isfile(path):
            raise Failed(f"duplicates: {path} is missing", "expected: one a task", "run duplicates_signatures to its end")
        with self.folder.open(path, mode="rt", encoding="utf-8") as lines:
            yield from lines

    def _named(self, nodes: np.ndarray, starts: np.ndarray) -> Iterator[tuple[int, int, str, str]]:
        """Task, place, id and file of documents, which are given and come in the order of their numbers."""
        for task in range(self.tasks):
            wanted = iter((nodes[slice(*np.searchsorted(nodes, starts[task : task + 2]))] - starts[task]).tolist())
            next_one = next(wanted, None)
            for place, line in enumerate(self._documents(task) if next_one is not None else ()):
                if place == next_one:
                    yield task, place, *json.loads(line)
                    next_one = next(wanted, None)

    def _files(self, nodes: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Where each document's file stands among the files, int64 [nodes]."""
        numbers: dict[str, int] = {}
        found = np.fromiter((numbers.setdefault(file, len(numbers)) for *_, file in self._named(nodes, starts)), np.int64)
        places = np.empty(len(numbers), np.int64)
        places[[numbers[file] for file in sorted(numbers)]] = np.arange(len(numbers))
        return places[found]

    def _write(self, nodes: np.ndarray, stays: np.ndarray, is_copy: np.ndarray, starts: np.ndarray) -> Counter[str]:
        """Write what each task drops. Returns how many documents, by reason."""
        kept, dropped = np.unique(stays), nodes != stays
        ids = {number: id for number, (*_, id, _) in zip(kept.tolist(), self._named(kept, starts), strict=True)}
        why = zip(stays[dropped].tolist(), is_copy[dropped].tolist(), strict=True)
        named = zip(self._named(nodes[dropped], starts), why, strict=True)
        reasons: Counter[str] = Counter()
        following = next(named, None)
        for task in range(self.tasks):
            with self.folder.open(f"removed/{task:06d}.jsonl", mode="wt", encoding="utf-8") as file:
                while following is not None and following[0][0] == task:
                    (_, place, id, _), (original, copies) = following
                    reason = "exact" if copies else "near"
                    reasons[reason] += 1
                    removal = {"place": place, "id": id, "reason": reason, "duplicate_of": ids[original]}
                    file.write(json.dumps(removal) + "\n")
                    following = next(named, None)
        return reasons


def joined(labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Clusters once these pairs are linked, too.

    Args:
        labels: of each document the least number of its cluster, int64 [n].
        pairs: of numbers, int64 [pairs, 2].
    Returns: as `labels`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, ends = np.unique(labels[pairs], return_inverse=True)
    one, other = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(nodes), len(nodes)))
    component = connected_components(graph, directed=False)[1] if len(nodes) else np.zeros(0, np.int64)
    least = nodes[np.unique(component, return_index=True)[1]]  # nodes are in order: a component's first is its least
    moved = np.arange(len(labels))
    moved[nodes] = least[component]
    return moved[labels]


def clustered(labels: np.ndarray) -> np.ndarray:
    """The documents that are not alone, in order."""
    members = np.flatnonzero(labels != np.arange(len(labels)))
    return np.unique(np.concatenate([members, labels[members]]))


def first(labels: np.ndarray, nodes: np.ndarray, files: np.ndarray) -> np.ndarray:
    """For each of the documents the one of its cluster that comes first in the input: by file, then by number.

    Args:
        nodes: numbers, in order; whole clusters.
        files: place of each one's file among the files.
    """
    order = np.lexsort((nodes, files))
    _, at, cluster = np.unique(labels[nodes][order], return_index=True, return_inverse=True)
    found = np.empty_like(nodes)
    found[order] = nodes[order][at][cluster]
    return found


def removals(folder: DataFolder, task: int) -> Iterator[dict]:
    """What a task drops, in the order it reads: `place`, `id`, `reason`, `duplicate_of`."""
    path = f"removed/{task:06d}.jsonl"
    if not folder.isfile(path):
        raise Failed(f"duplicates: {path} is missing", "expected: one file a task", "run duplicates_clusters to its end")
    with folder.open(path, mode="rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)
