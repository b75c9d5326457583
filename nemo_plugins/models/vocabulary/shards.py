"""A safetensors file with some of its tensors replaced, the others passed through without being held in memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import torch

from nemo_plugins.planning import weights

COPIED = 1 << 24  # bytes at once
ALIGNED = 8  # where the data begin, as the safetensors library has it


def rewrite(source: Path, to: Path, rows: int, names: list[str], replace: Callable[[str], torch.Tensor]) -> int:
    """Write `to` as `source` with `replace(name)`, of `rows` rows and else of the same shape and type, for each of `names`.

    Returns: by how many bytes the data have grown.
    """
    header, begin = weights.header(source)
    metadata = header.pop("__metadata__", None)
    entries = sorted(header.items(), key=lambda entry: entry[1]["data_offsets"][0])
    before = max(entry["data_offsets"][1] for _, entry in entries)
    made, position = {} if metadata is None else {"__metadata__": metadata}, 0
    for name, entry in entries:
        start, stop = entry["data_offsets"]
        size, shape = stop - start, entry["shape"]
        if name in names:
            size, shape = size // shape[0] * rows, [rows, *shape[1:]]
        made[name] = {**entry, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(made, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    with source.open("rb") as file, to.open("wb") as written:
        written.write(struct.pack("<Q", len(text)) + text)
        for name, entry in entries:
            if name in names:
                written.write(replace(name).contiguous().flatten().view(torch.uint8).numpy().data)
            else:
                file.seek(begin + entry["data_offsets"][0])
                _pass(file, written, entry["data_offsets"][1] - entry["data_offsets"][0])
    return position - before


def _pass(source, to, size: int) -> None:
    while size:
        block = source.read(min(size, COPIED))
        if not block:
            raise EOFError(f"{source.name} ends early")
        to.write(block)
        size -= len(block)
