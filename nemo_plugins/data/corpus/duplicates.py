"""Exact and near-duplicates of a corpus by MinHash-LSH, on datatrove's stages.

Near-duplicates are found as FineWeb finds them (arXiv 2406.17557): sets of runs of 5 words, 14 buckets of 8 minimal hashes. A
pair of Jaccard similarity s meets in a bucket with probability 1 - (1 - s^8)^14:

    s            0.5    0.6    0.7    0.75   0.8    0.85   0.9    0.95
    found        0.053  0.211  0.565  0.772  0.924  0.988  0.9996 1.0000

The hash of the whole text is one more bucket, so exact duplicates (but for case and whitespace) and those shorter than a run
of words are found in the same pass. What was linked in any bucket is one cluster, of which the first in the input stays: by
path of the file, then by place in it, whatever the number of tasks. In a cluster the ends need not resemble each other.

What datatrove 0.3.0 lacks: its tokenizer for Polish needs spaCy and its shingles drop accents; the document kept depends on
the order of the buckets; nobody learns which document a dropped one repeats.
"""

from __future__ import annotations

import json
import re
import resource
import struct
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import xxhash
from datatrove.data import DocumentsPipeline
from datatrove.io import get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, _mersenne_prime

from nemo_plugins.configs.schema import DuplicatesConfig
from nemo_plugins.data.corpus.clusters import Cluster, removals
from nemo_plugins.data.corpus.words import ngram_hashes, word_hashes, words
from nemo_plugins.runs.errors import UserError

SPACE = re.compile(r"\s+")
RUNS_AT_ONCE = 4096  # of words: 4096 x 112 hashes are 3.7 MB, so a document of 200 MB needs no more
SAMPLES, SAMPLE_CHARACTERS = 20, 1000


class CorpusJob(NamedTuple):
    """One datatrove job: `tasks` of it, each running `pipeline()`; the next stage starts when all tasks are done."""

    name: str
    tasks: int
    pipeline: Callable[[], list[PipelineStep]]


def single(step: Callable[..., PipelineStep], *of: object) -> list[PipelineStep]:
    """The pipeline of one step, made of these; bound to them by `partial` it can be pickled."""
    return [step(*of)]


def stages(
    documents: Callable[[], Sequence[PipelineStep]],
    kept: Callable[[], Sequence[PipelineStep]],
    folder: str,
    tasks: int,
    asked: DuplicatesConfig,
) -> list[CorpusJob]:
    """The four jobs that remove duplicates, to be run one after the other.

        for stage in stages(lambda: [reader(source)], lambda: [writer(target)], f"{run}/duplicates", 8, cfg.corpus.duplicates):
            LocalPipelineExecutor(stage.pipeline(), stage.tasks, logging_dir=f"{run}/logs/{stage.name}").run()

    Args:
        documents: gives the steps that read the corpus; called for two stages and run with the same `tasks`, so each task must
            read the same documents in the same order both times. A reader's `file_path` in the metadata decides the order.
        kept: gives the steps that come after, at least a writer. It sees the documents that stay, in their order.
        folder: for signatures, pairs and results: 1.1 kB a document at FineWeb's numbers, to be deleted by the caller. Never
            one of other settings or another corpus.
        tasks: of reading and writing; each holds about 200 bytes a document that it reads. `duplicates_pairs` has one for each
            bucket and one for the whole text, and `duplicates_clusters` one for all documents (docs/data.md).
        asked: see the module. More hashes a bucket want a higher similarity, more buckets find more.
    Returns: stages `duplicates_signatures`, `duplicates_pairs`, `duplicates_clusters`, `duplicates_filter`. The steps they give
        can be pickled; a stage or a task that is run again writes the same files.
    Raises: UserError where a number is below 1.

    Left in `folder`:
        summary.json    `documents`, `kept`, `exact`, `near` (dropped, by reason), `cluster_sizes` {"2": how many, "3": ...}
        removed/{task:06d}.jsonl   each dropped document: its place in the task, `id`, `reason`, `duplicate_of` (an id)
        samples/{task:06d}.jsonl   the first 20 dropped of each reason with the first 1000 characters of their text
    Counts of the filter's stats (datatrove's stats.json): total, forwarded, dropped, dropped_exact, dropped_near.

    Trap: "near" compares words only, so texts of five words or more that differ in signs alone ("Ile to jest 2 + 2?" and
    "Ile to jest 2 - 2?") are near-duplicates. Exercises and tables go past this stage, not through it.
    """
    buckets = asked.buckets
    numbers = {"shingle_words": asked.shingle_words, "buckets": buckets, "hashes": asked.hashes, "tasks": tasks}
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"duplicates: {name}={number}", "expected: 1 or more", "FineWeb: 5 words, 14 buckets of 8 hashes")
    config = MinhashConfig(n_grams=asked.shingle_words, num_buckets=buckets, hashes_per_bucket=asked.hashes)
    with_whole_text = replace(config, num_buckets=buckets + 1)
    return [
        CorpusJob("duplicates_signatures", tasks, partial(_signatures, documents, folder, config)),
        CorpusJob("duplicates_pairs", buckets + 1, partial(_pairs, folder, with_whole_text)),
        CorpusJob("duplicates_clusters", 1, partial(single, Cluster, folder, buckets, tasks)),
        CorpusJob("duplicates_filter", tasks, partial(_filter, documents, kept, folder)),
    ]


def _signatures(documents, folder, config) -> list[PipelineStep]:
    return [*documents(), Signature(folder, config)]


def _pairs(folder, config) -> list[PipelineStep]:
    return [MinhashPairs(f"{folder}/signatures", f"{folder}/pairs", config=config, lines_to_buffer=1000)]


def _filter(documents, kept, folder) -> list[PipelineStep]:
    return [*documents(), DropDuplicates(folder), *kept()]


def text_key(text: str) -> int:
    """128-bit hash of a text but for case, Unicode composition and whitespace: equal texts are exact duplicates."""
    compared = SPACE.sub(" ", unicodedata.normalize("NFC", text.casefold())).strip()
    return xxhash.xxh3_128_intdigest(compared.encode("utf-8", "surrogatepass"))


class Signature(MinhashDedupSignature):
    """Minimal hashes of our own words, the text's own hash as one more bucket, and each document's id and file.

    Writes `{folder}/signatures/bucket_{b:03d}/{task:05d}.minhash.sig` as MinhashDedupBuckets reads them, and
    `{folder}/documents/{task:05d}.jsonl`, `[id, file]` a line.
    """

    def __init__(self, folder: str, config: MinhashConfig):
        super().__init__(f"{folder}/signatures", config)
        self.documents = get_datafolder(f"{folder}/documents")

    def get_shingles(self, text: str) -> np.ndarray:
        """Hashes of the runs of words, uint64 `[runs, 1]`; none for a text shorter than a run."""
        return ngram_hashes(word_hashes(words(text)), self.config.n_grams).reshape(-1, 1)

    def get_signature(self, shingles: np.ndarray) -> np.ndarray:
        """Minimal hash under each of the permutations, uint64 `[buckets, hashes]`."""
        a, b = self.parameters
        blocks = (shingles[at : at + RUNS_AT_ONCE] for at in range(0, len(shingles), RUNS_AT_ONCE))
        minima = [((block * a + b) % _mersenne_prime).min(axis=0) for block in blocks]
        return np.min(minima, axis=0).reshape(self.config.num_buckets, self.config.hashes_per_bucket)

    def whole_text(self, text: str) -> np.ndarray:
        """The text's key as one row of a bucket, uint64 `[hashes]`; MinhashDedupBuckets wants the first below 2^61 - 1."""
        high, low = divmod(text_key(text), 1 << 64)
        row = np.zeros(self.config.hashes_per_bucket, dtype=np.uint64)
        row[0] = high % int(_mersenne_prime)
        row[1:2] = low
        return row

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        rows = struct.Struct(f"<{self.config.hashes_per_bucket}QI")
        names = [f"bucket_{bucket:03d}/{rank:05d}.minhash.sig" for bucket in range(self.config.num_buckets + 1)]
        files = [self.output_folder.open(name, mode="wb") for name in names]
        with self.documents.open(f"{rank:05d}.jsonl", mode="wt", encoding="utf-8") as listed:
            for place, document in enumerate(data):
                with self.track_time():
                    self.stat_update("total")
                    listed.write(json.dumps([document.id, str(document.metadata.get("file_path", ""))]) + "\n")
                    files[-1].write(rows.pack(*self.whole_text(document.text).tolist(), place))
                    shingles = self.get_shingles(document.text)
                    if shingles.size:
                        for file, row in zip(files, self.get_signature(shingles).tolist(), strict=False):
                            file.write(rows.pack(*row, place))
        for file, name in zip(files, names, strict=True):
            file.close()
            self._sort(name)

    def _sort(self, name: str) -> None:
        """Order a file's rows by their hashes; datatrove's own sort holds a Python object of 500 bytes a row."""
        row = np.dtype([("hashes", "<u8", (self.config.hashes_per_bucket,)), ("place", "<u4")])
        with self.output_folder.open(name, mode="rb") as file:
            rows = np.frombuffer(file.read(), dtype=row)
        order = np.lexsort((rows["place"], *rows["hashes"].T[::-1]))
        with self.output_folder.open(name, mode="wb") as file:
            file.write(rows[order].tobytes())


class MinhashPairs(MinhashDedupBuckets):
    """Documents that meet in a bucket, from the sorted signatures of all tasks, whose files are open at once."""

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # 1024 is usual where nobody asks for more
        super().run(data, rank, world_size)


class DropDuplicates(PipelineStep):
    """Lets through what no earlier document repeats; `folder`: that of `stages`."""

    type = "🫂 - DEDUP"
    name = "drop duplicates"

    def __init__(self, folder: str):
        super().__init__()
        self.folder = get_datafolder(folder)

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        to_remove = removals(self.folder, rank)
        removal, sampled = next(to_remove, None), {"exact": 0, "near": 0}
        with self.folder.open(f"samples/{rank:06d}.jsonl", mode="wt", encoding="utf-8") as samples:
            for place, document in enumerate(data):
                self.stat_update("total")
                if removal is None or place != removal["place"]:
                    self.stat_update("forwarded")
                    yield document
                    continue
                if removal["id"] != document.id:
                    raise UserError(
                        f"duplicates: task {rank} reads {document.id} where it read {removal['id']} before",
                        "expected: the same documents in the same order as for the signatures",
                        "delete the folder of duplicates and its logs and begin this stage again",
                    )
                self.stat_update("dropped", f"dropped_{removal['reason']}")
                if sampled[removal["reason"]] < SAMPLES:
                    sampled[removal["reason"]] += 1
                    samples.write(json.dumps({**removal, "text": document.text[:SAMPLE_CHARACTERS]}) + "\n")
                removal = next(to_remove, None)
