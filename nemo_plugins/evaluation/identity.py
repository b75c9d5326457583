"""What the files of a model say of it: its values, how they are quantised, their bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path


def parameters(folder: Path) -> int:
    """Values in the safetensors of a folder, from their headers; scales of quantised weights count."""
    total = 0
    for shard in sorted(folder.glob("*.safetensors")):
        with shard.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                count = 1
                for size in entry["shape"]:
                    count *= size
                total += count
    return total


def quantised(model: Path) -> str | None:
    """How the weights of a folder or `.gguf` are quantised; None where they are not."""
    if model.is_file():
        return "gguf"
    config = json.loads((model / "config.json").read_text())
    return (config.get("quantization_config") or {}).get("quant_method")


def size(model: Path) -> int:
    """Bytes of the weights."""
    return sum(file.stat().st_size for file in model.glob("*.safetensors")) if model.is_dir() else model.stat().st_size
