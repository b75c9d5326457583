"""What tells one model from another: `runs.fingerprint`, and a piece of every tensor.

Two models of one shape may agree in the ends of their files: low-rank adapters, for one, leave embeddings and norms as they
were. Results must never be taken for another model's, so each tensor counts.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

from nemo_plugins import runs

PIECE = 4096  # bytes from the middle of each tensor


def identity(model: Path) -> str:
    """16 hexadecimal digits of a Hugging Face folder or a `.gguf` file."""
    digest = hashlib.sha256(runs.fingerprint(model).encode())
    for shard in sorted(model.glob("*.safetensors")) if model.is_dir() else ():
        with shard.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for name, entry in sorted(header.items()):
                begin, end = entry["data_offsets"]
                file.seek(8 + length + max(begin, (begin + end - PIECE) // 2))
                digest.update(name.encode() + file.read(min(PIECE, end - begin)))
    if model.is_file():  # a .gguf: its tensors lie one after the other
        size = model.stat().st_size
        with model.open("rb") as file:
            for place in range(0, size, max(PIECE, size // 1024)):
                file.seek(place)
                digest.update(file.read(PIECE))
    return digest.hexdigest()[:16]


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
