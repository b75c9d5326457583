"""What the files of a model say of it: its values, how they are quantised, their bytes."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

from nemo_plugins.planning import hf_folder, weights

KEY = "eval.models"  # for messages
TYPES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}  # as safetensors names them, and we


def parameters(folder: Path) -> int:
    """Values of the tensors of a folder, from their headers; scales of quantised weights count."""
    return sum(math.prod(tensor.shape) for tensor in hf_folder.stored(folder, KEY).values())


def quantised(model: Path) -> str | None:
    """How the weights of a folder or `.gguf` are quantised; None where they are not."""
    if model.is_file():
        return "gguf"
    config = json.loads((model / "config.json").read_text())
    return (config.get("quantization_config") or {}).get("quant_method")


def stored_as(model: Path) -> str:
    """Format of the weights: a folder's quantisation or the type of most of it (`bf16`), of a `.gguf` what its name ends in."""
    if model.is_file():
        return model.stem.rpartition("-")[2].lower()
    if how := quantised(model):
        return how
    values: Counter[str] = Counter()
    for tensor in hf_folder.stored(model, KEY).values():
        values[tensor.dtype] += math.prod(tensor.shape)
    [(most, _)] = values.most_common(1) or [("", 0)]
    return TYPES.get(most, most.lower())


def size(model: Path) -> int:
    """Bytes of the weights' files."""
    return sum(file.stat().st_size for file in weights.shards(model, KEY)) if model.is_dir() else model.stat().st_size
