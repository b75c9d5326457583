"""Text to tokens: `nemo_plugins.data.parallel_tokens` beside Megatron-LM's `preprocess_data`, on the same cores and text.

    python benchmarks/tokens.py [--megabytes 150] [--processes 2] [--repeats 5] [--root DIR]

The peer does what Megatron-LM's tools/preprocess_data.py does (the packages do not bring that file): a pool of forked
processes, one line of JSON handed over at a time in chunks of 32, one call of the tokenizer a document, ids back to the parent,
which builds the pair with megatron-core's IndexedDatasetBuilder. Both run on the same cores, pinned, in turns; who was second
goes first the next time; the start of their processes counts, what both have imported in the parent does not. Seconds of the
clock say what a user waits and suffer from other jobs of the machine; seconds of the processors hardly do. The text is the
bundled one again and again. Both must write the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nemo_plugins.data import parallel_tokens
from nemo_plugins.runs.workers import cores

REPOSITORY = Path(__file__).resolve().parents[1]
TOKENIZER = REPOSITORY / "assets" / "tiny_pl"
TEXT = REPOSITORY / "assets" / "polish_text" / "train.jsonl.gz"
CHUNK = 32  # lines, as preprocess_data has it

_tokenizer = None  # of a process of the peer's pool


def load():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TOKENIZER)


def begin() -> None:
    global _tokenizer
    _tokenizer = load()


def encode(line: str) -> list[int]:
    return [*_tokenizer(json.loads(line)["text"]).input_ids, _tokenizer.eos_token_id]


def peer(path: Path, prefix: Path, processes: int) -> int:
    """Returns: tokens written."""
    import numpy as np
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    dtype, total = DType.optimal_dtype(len(load())), 0
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    with multiprocessing.get_context("fork").Pool(processes, initializer=begin) as pool, open(path) as lines:
        for ids in pool.imap(encode, lines, CHUNK):
            builder.add_document(np.array(ids, dtype=dtype), [len(ids)])
            total += len(ids)
        pool.close()
        pool.join()
    builder.finalize(f"{prefix}.idx")
    return total


def ours(path: Path, prefix: Path, processes: int) -> int:
    return parallel_tokens.write(prefix, path, load(), prefix.with_name("parts"), processes).tokens


def measured(run: Callable[[], int]) -> tuple[float, float]:
    """Tokens a second of the clock, and of all processors together."""

    def processors() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    clock, worked = time.monotonic(), processors()
    total = run()
    return total / (time.monotonic() - clock), total / (processors() - worked)


def row(name: str, found: list[float], form: str) -> str:
    return f"{name:<34} {statistics.median(found):>12{form}}   ({min(found):{form}} to {max(found):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=150)
    parser.add_argument("--processes", type=int, default=cores())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.processes])
    load()
    import megatron.core.datasets.indexed_dataset  # noqa: F401

    folder = Path(tempfile.mkdtemp(dir=given.root))
    try:
        bundled = gzip.decompress(TEXT.read_bytes())
        text = folder / "text.jsonl"
        text.write_bytes(bundled * max(1, given.megabytes * 1_000_000 // len(bundled)))
        print(f"{text.stat().st_size / 1e6:.0f} MB of text, {given.processes} processes, {given.repeats} repeats", flush=True)
        runs = {"ours": ours, "preprocess_data": peer}
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for repeat in range(given.repeats):
            files = {}
            for name in sorted(runs, reverse=repeat % 2 == 1):
                at = folder / f"{name}-{repeat}"
                at.mkdir()
                rates[name].append(measured(lambda name=name, at=at: runs[name](text, at / "tokens", given.processes)))
                files[name] = [(at / f"tokens{suffix}").read_bytes() for suffix in (".bin", ".idx")]
                shutil.rmtree(at)
            if files["ours"] != files["preprocess_data"]:
                sys.exit("they wrote different bytes")
            load_now = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
            print(f"repeat {repeat + 1}: " + ", ".join(f"{n} {r[-1][0]:,.0f} tokens/s" for n, r in rates.items()) + load_now)
        for kind, per in enumerate(("second", "second of a processor")):
            found = {name: [one[kind] for one in rates[name]] for name in rates}
            for name in runs:
                print(row(f"{name}, tokens a {per}", found[name], ",.0f"))
            ratios = [one / two for one, two in zip(*found.values(), strict=True)]
            print(row(f"ratio, by {per}", ratios, ".2f"))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
