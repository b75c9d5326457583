"""Whether a Hugging Face folder is whole, from its headers alone: no shard is read beyond its first kilobytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_plugins.runs.errors import UserError

TOKENIZERS = ("tokenizer.json", "tokenizer.model")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library itself


def check(folder: Path, key: str) -> None:
    """Hold a Hugging Face folder against what it says of itself.

    Raises:
        UserError: no config.json, no tokenizer, no safetensors (or pickles only), a shard that is missing or cut short.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{key}: {folder} has no config.json", "expected a Hugging Face folder")
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise UserError(f"{key}: {folder} has no tokenizer", f"expected {' or '.join(TOKENIZERS)}")
    for shard in shards(folder, key):
        check_shard(shard, key)


def shards(folder: Path, key: str) -> list[Path]:
    """The safetensors files of a folder as transformers chooses them: all that the index names, else `model.safetensors`.

    Others beside them are another copy of the model (Mistral's `consolidated.safetensors`) or an adapter.
    """
    places = weight_map(folder, key)
    if places is None:
        return [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else _refuse(folder, key)
    named = sorted(set(places.values()))
    if WEIGHTS not in named and (folder / WEIGHTS).is_file():
        raise UserError(
            f"{key}: {folder} has {WEIGHTS}, and {INDEX} names {named[0]}",
            "two models, of which transformers takes the one and others the other: move one of them out of the folder",
        )
    absent = [name for name in named if not (folder / name).is_file()]
    if absent:
        raise UserError(
            f"{key}: {folder} lacks {', '.join(absent)}",
            f"{INDEX} names {len(named)} shards; fetch the missing ones",
        )
    return [folder / name for name in named]


def index(places: Mapping[str, str], total_size: int) -> str:
    """What `INDEX` holds: each tensor's shard, and the bytes of all tensors."""
    return json.dumps({"metadata": {"total_size": total_size}, "weight_map": dict(places)}, indent=2) + "\n"


def weight_map(folder: Path, key: str) -> dict[str, str] | None:
    """The file of each tensor, as the index has it; None where there is no index. Raises UserError where it cannot be read."""
    index = folder / INDEX
    if not index.is_file():
        return None
    try:
        places = json.loads(index.read_text())["weight_map"]
        if not all(isinstance(name, str) and Path(name).name == name for name in places.values()):
            raise ValueError("a file of another folder")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{key}: {index} cannot be read", "expected JSON with a weight_map; fetch it again") from None
    return places


def _refuse(folder: Path, key: str) -> list[Path]:
    pickles = sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
    if others := sorted(folder.glob("*.safetensors")):
        raise UserError(
            f"{key}: {folder} has {others[0].name}, and neither {WEIGHTS} nor {INDEX}",
            "expected one of the two, which say what the model's weights are; fetch the folder again",
        )
    if pickles:
        raise UserError(
            f"{key}: {folder} holds only pickled weights ({pickles[0].name})",
            "expected *.safetensors: a pickle can run code when it is loaded; fetch or save the model as safetensors",
        )
    raise UserError(f"{key}: {folder} holds no weights", "expected *.safetensors")


def header(shard: Path) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file, which follows 8 bytes with its length, and the byte at which the data begin.

    Raises:
        struct.error, ValueError: the file has no whole header.
    """
    with shard.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(shard.stat().st_size - 8, LONGEST_HEADER):
            raise ValueError("header longer than the file")
        return json.loads(file.read(length)), 8 + length


def check_shard(shard: Path, key: str) -> None:
    """A safetensors file is as long as its header says."""
    size = shard.stat().st_size
    try:
        entries, start = header(shard)
        stops = (entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")
        expected = start + max(stops, default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{key}: {shard} is not a whole safetensors file ({size:,} bytes)", "fetch this file again") from None
    if size != expected:
        raise UserError(
            f"{key}: {shard} has {size:,} bytes", f"expected {expected:,} as its header says; fetch this file again"
        )
