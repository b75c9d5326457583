"""Time and memory of the stages of near-duplicates that do not get shorter with more machines, by the number of documents.

python benchmarks/clusters.py --documents 1000000 10000000

`pairs` is one bucket of the 15, which one process merges; `clusters` joins the pairs of all buckets. Signatures are drawn:
`--share` of the documents have a duplicate, in clusters of 2 and more, and a pair meets in `--met` of the buckets of hashes.
docs/data.md extrapolates both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BUCKETS, HASHES, TASKS = 14, 8, 64
ROW = np.dtype([("hashes", "<u8", (HASHES,)), ("place", "<u4")])


def write(folder: Path, documents: int, share: float, met: float) -> None:
    """What the stages before leave: documents, the signatures of one bucket, the pairs of all."""
    random = np.random.default_rng(1)
    size = -(-documents // TASKS)
    for name in ("documents", "pairs", "signatures/bucket_000"):
        (folder / name).mkdir(parents=True)
    like = random.permutation(documents)[: int(documents * share)]
    of = like[(np.arange(len(like)) * random.random(len(like))).astype(np.int64)]  # clusters of all sizes
    for bucket in range(BUCKETS + 1):
        here = random.random(len(like)) < (met if bucket < BUCKETS else 0.1)
        ends = np.stack([of[here], like[here]], 1)
        ends = ends[ends[:, 0] != ends[:, 1]]
        np.stack([ends // size, ends % size], 2).astype("<u4").tofile(folder / "pairs" / f"{bucket:05d}_00.dups")
    hashes = random.integers(0, 1 << 60, documents, np.uint64)
    hashes[ends[:, 1]] = hashes[ends[:, 0]]
    for task in range(TASKS):
        places = range(min(size, documents - task * size))
        lines = (f'["part-{task:05d}.jsonl.zst:{place}", "{task:06d}"]\n' for place in places)
        (folder / "documents" / f"{task:05d}.jsonl").write_text("".join(lines))
        rows = np.zeros(len(places), ROW)
        rows["hashes"] = hashes[task * size : task * size + len(places), None]
        rows["place"] = places
        rows[np.argsort(rows["hashes"][:, 0], kind="stable")].tofile(
            folder / "signatures" / "bucket_000" / f"{task:05d}.minhash.sig"
        )


def measure(stage: str, folder: Path) -> None:
    """A stage in a process of its own; prints its seconds of the processor and the most memory that it took."""
    from nemo_plugins.configs.schema import DuplicatesConfig
    from nemo_plugins.data.corpus import duplicates
    from nemo_plugins.runs import peak_memory_bytes

    asked = DuplicatesConfig(shingle_words=5, buckets=BUCKETS, hashes=HASHES)
    jobs = {job.name: job for job in duplicates.stages(list, list, str(folder), TASKS, asked)}
    [step] = jobs[f"duplicates_{stage}"].pipeline()
    if stage == "pairs":
        step.output_folder = duplicates.get_datafolder(str(folder / "of_one_bucket"))
    before, start = peak_memory_bytes(), time.process_time()
    step.run(None, 0, BUCKETS + 1)
    print(json.dumps({"seconds": time.process_time() - start, "bytes": peak_memory_bytes() - before}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--share", type=float, default=0.4)
    parser.add_argument("--met", type=float, default=0.6)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        return measure(given.measure[0], Path(given.measure[1]))
    print(f"{'documents':>12}  {'stage':<9} {'s of a core':>12} {'us/document':>12} {'MB':>8} {'bytes/document':>15}")
    for documents in given.documents:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), documents, given.share, given.met)
            for stage in ("pairs", "clusters"):
                command = [sys.executable, __file__, "--measure", stage, folder]
                took = json.loads(
                    subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
                )
                seconds, size = took["seconds"], took["bytes"]
                each = f"{seconds:>12.1f} {seconds / documents * 1e6:>12.2f} {size / 1e6:>8,.0f} {size / documents:>15.0f}"
                print(f"{documents:>12,}  {stage:<9} {each}", flush=True)


if __name__ == "__main__":
    main()
