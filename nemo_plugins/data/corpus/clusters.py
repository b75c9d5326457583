"""From pairs of documents that met in a bucket to clusters, and which document of each is kept."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from datatrove.io import DataFolder, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.binaryio import read_tuples_from_file

from nemo_plugins.runs.errors import Failed

Node = tuple[int, int]  # (task, place of the document in what the task reads)


class Member(NamedTuple):
    """A document of a cluster. Members sort as the input does: by file, then by place in it, whichever task read the file."""

    file: str
    task: int
    place: int
    id: str


class Clusters:
    """Disjoint sets of documents."""

    def __init__(self):
        self._parents: dict[Node, Node] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(self._parents)

    def join(self, one: Node, other: Node) -> None:
        self._parents[self.root(one)] = self.root(other)

    def root(self, node: Node) -> Node:
        parents = self._parents
        while parents.setdefault(node, node) != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node


class Cluster(PipelineStep):
    """Says for each document that is dropped why and which one it repeats; one task for the corpus.

    Args:
        folder: that of `duplicates.stages`.
        buckets: of minimal hashes, without that of the whole text.
        tasks: that wrote the signatures.
    Raises: Failed where pairs of a bucket or documents of a task are missing.

    Writes `removed/{task:06d}.jsonl` and `summary.json` there. A document is "exact" where one before it in the input has the
    same text, else "near"; `duplicate_of` is the one that is kept.
    """

    type = "🫂 - DEDUP"
    name = "clusters"

    def __init__(self, folder: str, buckets: int, tasks: int):
        super().__init__()
        self.folder = get_datafolder(folder)
        self.buckets, self.tasks = buckets, tasks

    def run(self, data=None, rank: int = 0, world_size: int = 1) -> None:
        with self.track_time():
            near, exact = Clusters(), Clusters()
            for bucket in range(self.buckets + 1):
                for one, other in self._pairs(bucket):
                    near.join(one, other)
                    if bucket == self.buckets:
                        exact.join(one, other)
            members, documents = self._members(set(near))
            originals = set(first(exact, members).values())
            kept = first(near, members)
            sizes = Counter(Counter(near.root(node) for node in near).values())
            reasons: Counter[str] = Counter()
            removed = defaultdict(list)
            exact_nodes = set(exact)
            for node in sorted(near):
                if kept[near.root(node)] != node:
                    reason = "exact" if node in exact_nodes and node not in originals else "near"
                    reasons[reason] += 1
                    original = members[kept[near.root(node)]].id
                    removed[node[0]].append(
                        {"place": node[1], "id": members[node].id, "reason": reason, "duplicate_of": original}
                    )
            for task in range(self.tasks):
                with self.folder.open(f"removed/{task:06d}.jsonl", mode="wt", encoding="utf-8") as file:
                    file.writelines(json.dumps(removal) + "\n" for removal in removed[task])
            summary = {
                "documents": documents,
                "kept": documents - reasons.total(),
                "exact": reasons["exact"],
                "near": reasons["near"],
                "cluster_sizes": {str(size): count for size, count in sorted(sizes.items())},
            }
            with self.folder.open("summary.json", mode="wt", encoding="utf-8") as file:
                json.dump(summary, file, indent=1)
            self.stat_update("to_remove", value=reasons.total())

    def _pairs(self, bucket: int) -> Iterator[tuple[Node, Node]]:
        path = f"pairs/{bucket:05d}_00.dups"
        if not self.folder.isfile(path):
            raise Failed(f"duplicates: {path} is missing", "expected: one file a bucket", "run duplicates_pairs to its end")
        with self.folder.open(path, mode="rb") as file:
            for task, place, other_task, other_place in read_tuples_from_file(file, "4I", lines_to_buffer=1000):
                yield (task, place), (other_task, other_place)

    def _members(self, wanted: set[Node]) -> tuple[dict[Node, Member], int]:
        """Ids and files of the documents in clusters, and how many documents there are in all."""
        members, documents = {}, 0
        for task in range(self.tasks):
            path = f"documents/{task:05d}.jsonl"
            if not self.folder.isfile(path):
                raise Failed(f"duplicates: {path} is missing", "expected: one a task", "run duplicates_signatures to its end")
            with self.folder.open(path, mode="rt", encoding="utf-8") as lines:
                for place, line in enumerate(lines):
                    documents += 1
                    if (task, place) in wanted:
                        id, file = json.loads(line)
                        members[task, place] = Member(file, task, place, id)
        return members, documents


def first(clusters: Clusters, members: dict[Node, Member]) -> dict[Node, Node]:
    """By each cluster's root its member that comes first in the input."""
    firsts: dict[Node, Node] = {}
    for node in clusters:
        root = clusters.root(node)
        if root not in firsts or members[node] < members[firsts[root]]:
            firsts[root] = node
    return firsts


def removals(folder: DataFolder, task: int) -> Iterator[dict]:
    """What a task drops, in the order it reads: `place`, `id`, `reason`, `duplicate_of`."""
    path = f"removed/{task:06d}.jsonl"
    if not folder.isfile(path):
        raise Failed(f"duplicates: {path} is missing", "expected: one file a task", "run duplicates_clusters to its end")
    with folder.open(path, mode="rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)
