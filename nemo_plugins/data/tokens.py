"""Text to tokens: Megatron `.bin/.idx` files, made once and reused while text and tokenizer stay the same.

Each document becomes BOS (where the tokenizer adds one) + text + EOS, so that a document's end is visible to the model.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1  # raise when the layout of documents or tokens changes: older token files are then made again
BATCH = 512  # documents handed to the tokenizer at once


@dataclass(frozen=True)
class Tokens:
    """A `.bin/.idx` pair: its path without the suffix, and what is in it."""

    prefix: Path
    documents: int
    tokens: int


def is_prefix(path: str | Path) -> bool:
    """True if `path` names a `.bin/.idx` pair by their common prefix."""
    return Path(f"{path}.bin").is_file() and Path(f"{path}.idx").is_file()


def documents(path: str | Path) -> Iterator[str]:
    """Documents of a text file: the `text` of each line of `.jsonl[.gz]`, or each non-empty line of `.txt[.gz]`."""
    path = Path(path)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as lines:
        is_json = ".jsonl" in path.suffixes
        for line in lines:
            if text := (json.loads(line)["text"] if is_json else line.rstrip("\n")):
                yield text


def write(prefix: Path, texts: Iterable[str], tokenizer) -> Tokens:
    """Tokenise `texts` into `prefix.bin` and `prefix.idx` with megatron-core's own builder.

    Args:
        tokenizer: a Hugging Face tokenizer; its BOS is added if it adds one itself, its EOS always.
    """
    import torch
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=DType.optimal_dtype(len(tokenizer)))
    count = total = 0

    def flush(batch: list[str]) -> None:
        nonlocal count, total
        for ids in tokenizer(batch, add_special_tokens=True)["input_ids"] if batch else ():
            ids = ids if ids and ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]
            builder.add_document(torch.tensor(ids), [len(ids)])
            count, total = count + 1, total + len(ids)

    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH:
            flush(batch)
            batch = []
    flush(batch)
    builder.finalize(f"{prefix}.idx")
    return Tokens(Path(prefix), count, total)


def tokenizer_fingerprint(tokenizer) -> str:
    """Hash of vocabulary, merges, special tokens: everything that decides which ids a text gets."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()[:16]


def cached(cache: Path, source: str, texts: Iterable[str], tokenizer, content: str) -> Tokens:
    """Tokens of `texts`, taken from `cache` if they were made before from the same content by the same tokenizer.

    Safe with several processes at once: one makes them under a lock, a folder that is there is whole.

    Args:
        source: short name of the text, for people who look into the cache.
        content: fingerprint of the text.
    """
    key = hashlib.sha256(f"{FORMAT} {content} {tokenizer_fingerprint(tokenizer)}".encode()).hexdigest()[:16]
    folder = cache / f"{source}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            made = write(partial / "tokens", texts, tokenizer)
            (partial / "tokens.json").write_text(json.dumps({"documents": made.documents, "tokens": made.tokens}))
            os.rename(partial, folder)
    counts = json.loads((folder / "tokens.json").read_text())
    return Tokens(folder / "tokens", counts["documents"], counts["tokens"])


def existing(prefix: str | Path) -> Tokens:
    """Counts of a `.bin/.idx` pair that the user brought."""
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    index = IndexedDataset(str(prefix)).index
    return Tokens(Path(prefix), len(index.document_indices) - 1, int(index.sequence_lengths.sum()))
