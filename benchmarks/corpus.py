"""A million short documents through `recipes/data.py`: time of each stage, and memory that does not grow with their number.

    python benchmarks/corpus.py [--documents 1000000 100000] [--processes 2] [--root DIR]

The documents are made: 5 to 30 words of the bundled text in an order by chance, each hundredth one again and each hundred and
first with its end changed. Quality and language are judged as always but drop nothing, for such text is neither. The memory
is the largest of any process, as the run's summary says it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def make(folder: Path, count: int) -> int:
    """Write the documents in files of 50,000. Returns their bytes."""
    with gzip.open(REPOSITORY / "assets" / "polish_text" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        words = sorted({word for line in lines for word in json.loads(line)["text"].split()})
    rng, size, last = random.Random(1), 0, ""
    folder.mkdir(parents=True)
    for number in range(0, count, 50_000):
        with open(folder / f"{number // 50_000:04d}.jsonl", "w", encoding="utf-8") as file:
            for place in range(number, min(count, number + 50_000)):
                if place % 100 == 99:
                    text = last
                elif place % 101 == 100:
                    text = f"{last} koniec"
                else:
                    text = " ".join(rng.choices(words, k=rng.randint(5, 30)))
                last = text
                size += file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[1_000_000, 100_000])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=given.root))
    try:
        for count in given.documents:
            size = make(root / str(count), count)
            command = [
                sys.executable, str(REPOSITORY / "recipes" / "data.py"), "+model=tiny_pl", f"run.name=short-{count}",
                f"run.root={root / 'runs'}", f"corpus.sources=[{root / str(count)}]", f"corpus.workers={given.processes}",
                "corpus.part_mib=8", "corpus.language_minimum=0", "corpus.quality.minimum=0", "corpus.tokens=false",
            ]  # fmt: skip
            start = time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds = time.monotonic() - start
            folder = root / "runs" / f"short-{count}" / "data"
            summary = json.loads((folder / "summary.json").read_text())
            counts = summary["counts"]
            print(
                f"{count:>9,} documents, {size / 1e6:.0f} MB: {seconds:,.0f} s by {given.processes} processes "
                f"({count / seconds:,.0f} documents/s), {summary['peak_memory_bytes'] / 2**20:,.0f} MiB at most in a process; "
                f"{counts['duplicates']['exact']:,} exact and {counts['duplicates']['near']:,} near-duplicates, "
                f"{counts['divide']['out']:,} to train on",
                flush=True,
            )
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
