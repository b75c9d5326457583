"""Text to tokens: `nemo_plugins.data.parallel_tokens` beside Megatron-LM's `preprocess_data`, on the same cores and text.

    python benchmarks/tokens.py [--megabytes 60] [--processes 2] [--repeats 3] [--root DIR]

The peer does what Megatron-LM's tools/preprocess_data.py does (the packages do not bring that file): a pool of processes, one
line of JSON handed over at a time in chunks of 32, one call of the tokenizer a document, ids back to the parent, which builds
the pair with megatron-core's IndexedDatasetBuilder. Runs take turns; the start of the processes counts for both. The text is
the bundled one again and again. Both must write the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nemo_plugins.data import parallel_tokens

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
    with multiprocessing.get_context("spawn").Pool(processes, initializer=begin) as pool, open(path) as lines:
        for ids in pool.imap(encode, lines, CHUNK):
            builder.add_document(np.array(ids, dtype=dtype), [len(ids)])
            total += len(ids)
    builder.finalize(f"{prefix}.idx")
    return total


def ours(path: Path, prefix: Path, processes: int) -> int:
    return parallel_tokens.write(prefix, path, load(), prefix.with_name("parts"), processes).tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=60)
    parser.add_argument("--processes", type=int, default=parallel_tokens.workers())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.root))
    try:
        bundled = gzip.decompress(TEXT.read_bytes())
        text = folder / "text.jsonl"
        text.write_bytes(bundled * max(1, given.megabytes * 1_000_000 // len(bundled)))
        print(f"{text.stat().st_size / 1e6:.0f} MB of text, {given.processes} processes, {given.repeats} repeats", flush=True)
        rates: dict[str, list[float]] = {"ours": [], "preprocess_data": []}
        for repeat in range(given.repeats):
            files = {}
            for name, run in (("ours", ours), ("preprocess_data", peer)):
                at = folder / f"{name}-{repeat}"
                at.mkdir()
                start = time.monotonic()
                total = run(text, at / "tokens", given.processes)
                rates[name].append(total / (time.monotonic() - start))
                files[name] = [(at / f"tokens{suffix}").read_bytes() for suffix in (".bin", ".idx")]
                shutil.rmtree(at)
            if files["ours"] != files["preprocess_data"]:
                sys.exit("they wrote different bytes")
        for name, found in rates.items():
            print(f"{name:<16} {statistics.median(found):>12,.0f} tokens/s  ({min(found):,.0f} to {max(found):,.0f})")
        ratios = [one / two for one, two in zip(*rates.values(), strict=True)]
        print(f"ratio            {statistics.median(ratios):>12.2f}           ({min(ratios):.2f} to {max(ratios):.2f})")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
