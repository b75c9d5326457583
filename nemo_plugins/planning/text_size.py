"""How many tokens a text has, and rows a file of dialogues: counted where it is small, else estimated from its start.

Imports no torch.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.data import blend, documents, lines, tokens
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError

COUNTED = 300_000  # tokens of a held-out text that a plan counts at most: half a second
LOOKED_AT = 50_000  # tokens of the start of a training text that its size is estimated from
BYTES_A_TOKEN = 4.0  # of a text whose tokenizer is not here
COUNTED_ROWS = 64 << 20  # bytes of a file of rows that is counted; of a longer one as many, and the rest is like them
ENCODED_ROWS = 1_000  # of which tokens are counted; the others are as long
COMPRESSED = 3.0  # text is about so many times its .gz or .zst
INDEX_HEADER = struct.Struct("<9sQB")  # of an .idx file: magic, version, code of the ids' type (megatron-core's DType)
ID_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 8, 7: 4, 8: 2}


@dataclass(frozen=True)
class TextSize:
    """Tokens of a text; `whole` where they are counted to its end."""

    tokens: int
    whole: bool


@dataclass(frozen=True)
class RowsSize:
    """Rows of files of dialogues, pairs or prompts, and about how many tokens their texts have."""

    count: int
    tokens: int


def rows(cfg: Recipe, sources: list[str]) -> RowsSize | None:
    """Rows of `.jsonl[.gz|.zst]` files and their tokens; None: none is named, or one is not here or cannot be read."""
    try:
        found = [_rows(path, _mark(path), _tokenizer(cfg)) for path in map(paths.resolve, sources)]
    except (OSError, EOFError, ValueError, LookupError):
        return None  # what is wrong with it, the check of the rows says
    return RowsSize(sum(one.count for one in found), sum(one.tokens for one in found)) if found else None


def of(cfg: Recipe, source: str, most: int = LOOKED_AT) -> TextSize | None:
    """Tokens of a source by the teacher's tokenizer, counted up to `most`; None: it is not here, or cannot be read."""
    path = paths.resolve(source)
    try:
        if tokens.is_prefix(path):
            return _prefix(path)
        files = documents.shards(path) if path.is_dir() else [path]
        return _counted(path, tuple(map(_mark, files)), _tokenizer(cfg), most)
    except (UserError, OSError, ValueError, LookupError, struct.error):
        return None  # what is wrong with it, the check of the source says


def too_short(cfg: Recipe, key: str, source: str, seq_length: int, global_batch_size: int) -> None:
    """Raises UserError where a held-out text is known not to fill one global batch."""
    need = seq_length * global_batch_size + 1
    found = of(cfg, source, min(need, COUNTED))
    if found and found.whole and found.tokens < need:
        raise UserError(
            f"{key} is too short: {source} has {found.tokens:,} tokens",
            f"expected at least one global batch, {global_batch_size} x {seq_length} + 1 = {need:,} tokens; "
            "take a longer text, a smaller batch or a shorter sequence",
        )


def readings(cfg: Recipe, sources: list[str], trained: int) -> list[str]:
    """A warning for each source that a training of so many tokens reads too often; none where a source is not here."""
    counts = [size.tokens for source in sources if (size := of(cfg, source)) and size.tokens]
    if not sources or cfg.data.exercises or len(counts) < len(sources):
        return []
    shares = blend.shares(counts, cfg.data.weights if cfg.data.weights and len(cfg.data.weights) == len(sources) else None)
    return blend.warnings(blend.sources(blend.names(sources), counts, shares, trained))


def total(cfg: Recipe, sources: list[str]) -> int | None:
    """Tokens of several sources; None where one of them is not here."""
    counts = [size.tokens for source in sources if (size := of(cfg, source))]
    return sum(counts) if counts and len(counts) == len(sources) else None


def _mark(file: Path) -> tuple[str, int, int]:
    """What another content of a file changes."""
    return str(file), file.stat().st_size, file.stat().st_mtime_ns


def _tokenizer(cfg: Recipe) -> Path | None:
    weights = paths.local_weights(cfg.model.path) if cfg.model.path else None
    tokenizer = weights / "tokenizer.json" if weights and not cfg.teacher.path else None
    return tokenizer if tokenizer and tokenizer.is_file() else None


def _unpacked(mark: tuple[str, int, int]) -> float:
    """Bytes of a file's text, about."""
    name, size, _ = mark
    return size * (COMPRESSED if name.endswith(lines.COMPRESSED) else 1.0)


@cache
def _rows(path: Path, mark: tuple[str, int, int], tokenizer: Path | None) -> RowsSize:
    """`mark` as of `_mark`: another file of this name is counted anew."""
    count = read = 0
    texts: list[str] = []
    with lines.opened(path) as stream:
        for line in lines.read(stream):
            if read >= COUNTED_ROWS:
                count = int(count * max(1.0, _unpacked(mark) / read))
                break
            count, read = count + 1, read + line.size
            if line.content is not None and len(texts) < ENCODED_ROWS:
                texts.append("\n".join(lines.strings(json.loads(line.content))))
    if tokenizer is None:
        encoded = sum(len(text.encode()) for text in texts) / BYTES_A_TOKEN
    else:
        encoded = sum(map(len, tokens.Encoder(tokenizer.read_text(encoding="utf-8"), _eos(tokenizer), 0)(texts)))
    return RowsSize(count, int(encoded * count / max(1, len(texts))))


def _prefix(path: Path) -> TextSize:
    with Path(f"{path}.idx").open("rb") as file:
        *_, code = INDEX_HEADER.unpack(file.read(INDEX_HEADER.size))
    return TextSize(Path(f"{path}.bin").stat().st_size // ID_BYTES[code], True)


@cache
def _counted(path: Path, marks: tuple[tuple[str, int, int], ...], tokenizer: Path | None, most: int) -> TextSize:
    """`marks` are the files of the text with their sizes and times: another text is counted anew."""
    on_disk = sum(map(_unpacked, marks))
    if tokenizer is None:
        return TextSize(int(on_disk / BYTES_A_TOKEN), False)
    encoder = tokens.Encoder(tokenizer.read_text(encoding="utf-8"), _eos(tokenizer), 0)
    count = read = 0
    lengths: list[int] = []

    def texts():
        for text in documents.documents(path):
            lengths.append(len(text.encode()))
            yield text

    for ids in encoder(texts()):
        read += lengths.pop(0)
        count += len(ids)
        if count >= most:
            return TextSize(max(count, int(count * on_disk / max(1, read))), False)
    return TextSize(count, True)


def _eos(tokenizer: Path) -> int:
    """Id of the tokenizer's end of a document; one that no text has where its files do not say."""
    about = tokenizer.with_name("tokenizer_config.json")
    name = json.loads(about.read_text(encoding="utf-8")).get("eos_token") if about.is_file() else None
    name = name.get("content") if isinstance(name, dict) else name
    added = json.loads(tokenizer.read_text(encoding="utf-8")).get("added_tokens") or []
    return next((token["id"] for token in added if token["content"] == name), -1)
