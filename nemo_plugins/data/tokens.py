"""Text to tokens: Megatron `.bin/.idx` files, made once and reused while text and tokenizer stay the same.

Each document becomes BOS (where the tokenizer adds one) + text + EOS, so that a document's end is visible to the model.
Large text goes through `parallel_tokens`, which makes the same bytes with all cores.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nemo_plugins.data.batches import batches
from nemo_plugins.data.control_tokens import Ordinary
from nemo_plugins.data.documents import documents
from nemo_plugins.runs import locks
from nemo_plugins.runs.atomic import whole
from nemo_plugins.runs.errors import UserError

__all__ = ["Encoder", "Tokens", "cached", "documents", "existing", "is_prefix", "stored", "tokenizer_fingerprint", "write"]

FORMAT = 2  # raise when the layout of documents or tokens changes: older token files are then made again
SMALL_VOCABULARY = 65_500  # ids below it are stored in two bytes, else in four: megatron-core's DType.optimal_dtype
BATCH = 64  # documents handed to the tokenizer at once: enough for all cores, few enough for their caches
BATCH_CHARACTERS = 1 << 22  # and of how much text, so that long documents do not fill the memory


@dataclass(frozen=True)
class Tokens:
    """A `.bin/.idx` pair: its path without the suffix, and what is in it."""

    prefix: Path
    documents: int
    tokens: int


def is_prefix(path: str | Path) -> bool:
    """True if `path` names a `.bin/.idx` pair by their common prefix."""
    return Path(f"{path}.bin").is_file() and Path(f"{path}.idx").is_file()


@dataclass
class Encoder:
    """What turns documents into ids: a Hugging Face fast tokenizer without its Python, to be sent to other processes.

    It gives the ids that `tokenizer(texts, add_special_tokens=True)` gives, and EOS where they do not end in it; but the name
    of a special token in a text stays text (`control_tokens`).
    """

    definition: str  # the `tokenizers` library's JSON
    eos: int
    vocab_size: int
    control_tokens: bool = False  # whether `<|im_end|>` in a text becomes that token: in our own texts alone

    @classmethod
    def of(cls, tokenizer, control_tokens: bool = False) -> Encoder:
        """Raises UserError where a Hugging Face tokenizer has no EOS or is not a fast one."""
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(f"the tokenizer {tokenizer.name_or_path} has no tokenizer.json", "expected a fast tokenizer")
        if tokenizer.eos_token_id is None:
            raise UserError(f"the tokenizer {tokenizer.name_or_path} has no EOS", "expected eos_token in its configuration")
        return cls(tokenizer.backend_tokenizer.to_str(), tokenizer.eos_token_id, len(tokenizer), control_tokens)

    @property
    def dtype(self):
        """NumPy type of stored ids as megatron-core's `DType.optimal_dtype` has it, without the seconds of its import."""
        import numpy as np

        return np.uint16 if self.vocab_size < SMALL_VOCABULARY else np.int32

    def __call__(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """Ids of each document, in order; memory of one batch."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.definition)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        ordinary = None if self.control_tokens else Ordinary(tokenizer)
        around = tokenizer.encode("a").special_tokens_mask
        start, end = around.index(0), around[::-1].index(0)  # tokens that the tokenizer adds before and after a text
        for batch in batches(texts, BATCH, BATCH_CHARACTERS, len):
            for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=True):
                ids = encoding.ids
                if ordinary:
                    stop = len(ids) - end
                    ids = [*ids[:start], *ordinary.text(ids[start:stop]), *ids[stop:]]
                yield ids if ids and ids[-1] == self.eos else [*ids, self.eos]


def write(prefix: Path, texts: Iterable[str], tokenizer) -> Tokens:
    """Tokenise `texts` into `prefix.bin` and `prefix.idx` with megatron-core's own builder.

    Args:
        tokenizer: a Hugging Face tokenizer or an `Encoder`; its BOS is added if it adds one itself, its EOS always.
    """
    import numpy as np
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    encoder = tokenizer if isinstance(tokenizer, Encoder) else Encoder.of(tokenizer)
    dtype = encoder.dtype
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    count = total = 0
    for ids in encoder(texts):
        builder.add_document(np.array(ids, dtype=dtype), [len(ids)])
        count, total = count + 1, total + len(ids)
    builder.finalize(f"{prefix}.idx")
    return Tokens(Path(prefix), count, total)


def tokenizer_fingerprint(tokenizer) -> str:
    """Hash of vocabulary, merges, special tokens, EOS: everything that decides which ids a text gets."""
    split = bool(getattr(tokenizer, "split_special_tokens", False))
    decides = f"{tokenizer.backend_tokenizer.to_str()} {tokenizer.eos_token_id} {split}"
    return hashlib.sha256(decides.encode()).hexdigest()[:16]


def stored(cache: Path, source: str, tokenizer, content: str, make: Callable[[Path, Path], Tokens]) -> Tokens:
    """Tokens taken from `cache` if they were made before from the same content by the same tokenizer.

    Safe with several processes at once: one makes them under a lock, a folder that is there is whole.

    Args:
        source: short name of the text, for people who look into the cache.
        content: fingerprint of the text.
        make: called with the prefix to write and a folder for parts, which outlives an interruption.
    """
    key = hashlib.sha256(f"{FORMAT} {content} {tokenizer_fingerprint(tokenizer)}".encode()).hexdigest()[:16]
    folder, parts = cache / f"{source}-{key}", cache / f"{source}-{key}.parts"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{folder.name}.lock", "w") as lock:
        locks.take(lock)
        if not folder.exists():
            with whole(folder) as partial:
                written = make(partial / "tokens", parts)
                (partial / "tokens.json").write_text(json.dumps({"documents": written.documents, "tokens": written.tokens}))
        shutil.rmtree(parts, ignore_errors=True)
    counts = json.loads((folder / "tokens.json").read_text())
    return Tokens(folder / "tokens", counts["documents"], counts["tokens"])


def cached(cache: Path, source: str, texts: Iterable[str], tokenizer, content: str, *, control_tokens: bool = False) -> Tokens:
    """`stored` tokens of `texts`, made in this process. `control_tokens`: as of an `Encoder`."""
    encoder = Encoder.of(tokenizer, control_tokens)
    return stored(cache, source, tokenizer, f"{content} {control_tokens}", lambda prefix, parts: write(prefix, texts, encoder))


def existing(prefix: str | Path) -> Tokens:
    """Counts of a `.bin/.idx` pair that the user brought."""
    if not Path(f"{prefix}.bin").stat().st_size:
        return Tokens(Path(prefix), 0, 0)  # megatron-core cannot open it
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    index = IndexedDataset(str(prefix)).index
    return Tokens(Path(prefix), len(index.document_indices) - 1, int(index.sequence_lengths.sum()))
