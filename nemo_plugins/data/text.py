"""From the text or tokens that a configuration names to a data module."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs.schema import DataConfig
from nemo_plugins.data import blend as blends
from nemo_plugins.data import parallel_tokens, tokens
from nemo_plugins.data.documents import SUFFIXES


def cache_folder(root: str) -> Path:
    """Where tokens of texts are kept between runs, `<run.root>/.tokens`."""
    return Path(root) / ".tokens"


def sources(data: DataConfig, train: list[str]) -> list[Path]:
    """All texts that a stage reads: its own and the held-out ones."""
    return [runs.resolve(path) for path in (*train, *data.heldout, *data.heldout_more.values())]


def prepare(paths: list[str], tokenizer, cache: Path, key: str) -> list[tokens.Tokens]:
    """Tokens of each source: a `.bin/.idx` prefix as it is, a text or folder of texts tokenised into `cache`.

    Raises:
        runs.UserError: a source is neither, or holds no text.
    """
    if not paths:
        raise runs.UserError(f"{key} names no text", f"set {key}=[<file>]: {', '.join(SUFFIXES)} or a .bin/.idx prefix")
    prepared = []
    for path in map(runs.resolve, paths):
        if tokens.is_prefix(path):
            prepared.append(tokens.existing(path))
        else:
            prepared.append(_tokenised(path, tokenizer, cache))
        if not prepared[-1].tokens:
            raise runs.UserError(f"{key}: {path} holds no text", "expected at least one document")
    return prepared


def _tokenised(path: Path, tokenizer, cache: Path) -> tokens.Tokens:
    def make(prefix: Path, parts: Path) -> tokens.Tokens:
        if parallel_tokens.is_worth(path):
            return parallel_tokens.write(prefix, path, tokenizer, parts)
        return tokens.write(prefix, tokens.documents(path), tokenizer)

    return tokens.stored(cache, path.name.split(".")[0], tokenizer, runs.fingerprint(path), make)


def exercises(count: int, seed: int, tokenizer, cache: Path) -> tokens.Tokens:
    """`count` simple Polish exercises as one-turn chats, a document each (`nemo_plugins.data.exercises`)."""
    from nemo_plugins.data.exercises import chatml
    from nemo_plugins.data.exercises import exercises as generate

    texts = [chatml(exercise) for exercise in generate("train", count, seed)]
    content = hashlib.sha256("".join(texts).encode()).hexdigest()
    return tokens.cached(cache, "exercises", texts, tokenizer, content, control_tokens=True)


def blend(sources: list[tokens.Tokens], weights: list[float] | None) -> list[str]:
    """NeMo's `paths`: one prefix alone, several with weights (by tokens where none are given)."""
    if len(sources) == 1:
        return [str(sources[0].prefix)]
    weights = weights or [float(source.tokens) for source in sources]
    return [part for weight, source in zip(weights, sources, strict=True) for part in (str(weight), str(source.prefix))]


def whole_batches(tokens: int, seq_length: int, global_batch_size: int, samples: int, name: str = "heldout") -> int:
    """Global batches of held-out windows that the text fills, of at most `samples` windows but at least one batch.

    Raises:
        runs.UserError: not even one.
    """
    available = (tokens - 1) // seq_length // global_batch_size
    if available < 1:
        raise runs.UserError(
            f"data.{name if name == 'heldout' else f'heldout_more.{name}'} is too short: {tokens} tokens",
            f"expected at least one global batch, {global_batch_size} x {seq_length} + 1 = "
            f"{global_batch_size * seq_length + 1} tokens; take a longer text, a smaller batch or a shorter sequence",
        )
    return max(1, min(samples // global_batch_size, available))


@dataclass(frozen=True)
class BatchShape:
    """Tokens of a window, windows of a micro-batch and of a step."""

    seq_length: int
    micro_batch_size: int
    global_batch_size: int


def data_module(
    data: DataConfig,
    train_paths: list[str],
    key: str,
    tokenizer,
    cache: Path,
    shape: BatchShape,
    *,
    seed: int,
):
    """The data module of a stage and the counts of its text.

    Args:
        train_paths, key: the stage's own text (`distill.data`, …) and the key that named it.
        tokenizer: NeMo's `AutoTokenizer`.
        data: `heldout_samples` windows of its held-out text are scored: whole batches, fewer where it is shorter.
    Returns: (TextDataModule, {"train_tokens", "heldout_tokens", "heldout_tokens_scored", "documents"}).
    """
    from nemo_plugins.data.module import TextDataModule

    hf = tokenizer.tokenizer
    blends.check(data, train_paths, key)
    train = prepare(train_paths, hf, cache, key)
    if data.exercises:
        train.append(exercises(data.exercises, seed, hf, cache))
    shares = None
    if data.weights or data.exercises_share:
        counts, extra = [source.tokens for source in train], len(train) - len(train_paths)
        shares = blends.shares(counts, data.weights, extra, data.exercises_share)
    heldout = prepare(data.heldout, hf, cache, "data.heldout")
    if len(heldout) > 1:
        raise runs.UserError("data.heldout names several sources", "expected one file, so that its loss is one number")
    sets = {"heldout": heldout[0]}
    for name, path in data.heldout_more.items():
        [sets[name]] = prepare([path], hf, cache, f"data.heldout_more.{name}")
    batches = {
        name: whole_batches(source.tokens, shape.seq_length, shape.global_batch_size, data.heldout_samples, name)
        for name, source in sets.items()
    }
    module = TextDataModule(
        blend(train, shares),
        {name: (str(source.prefix), batches[name]) for name, source in sets.items()},
        tokenizer=tokenizer,
        seed=seed,
        index_mapping_dir=str(_index_folder(cache, [*train, *sets.values()])),
        reset_attention_mask=data.document_boundaries,
        **vars(shape),
    )
    return module, {
        "train_tokens": sum(source.tokens for source in train),
        "heldout_tokens": heldout[0].tokens,
        "heldout_tokens_scored": batches["heldout"] * shape.global_batch_size * shape.seq_length,
        "documents": sum(source.documents for source in train),
    }


def _index_folder(cache: Path, sources: list[tokens.Tokens]) -> Path:
    """Where Megatron keeps its order of the samples, which it knows by the tokens' paths: a user's may get other tokens."""
    brought = [runs.fingerprint(source.prefix) for source in sources if not source.prefix.is_relative_to(cache)]
    return cache / "index" / hashlib.sha256(" ".join(brought).encode()).hexdigest()[:16] if brought else cache / "index"
