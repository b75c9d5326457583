"""FP8 dynamic: e4m3 weights with a scale for each output channel, activations scaled token by token while the model runs.

Written as compressed-tensors has it (`float-quantized`, strategies `channel` and `token`), which vLLM loads. Some rows are in
memory at a time, whatever the size of tensors and shards: names and shapes are known from the headers, so that each output file
begins with its header and is then written through.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from nemo_plugins.models import nemo
from nemo_plugins.planning import weights
from nemo_plugins.planning.hf_folder import HfFolder, Tensor
from nemo_plugins.runs.atomic import put_in_place, whole_file, write
from nemo_plugins.runs.errors import UserError

LARGEST = 448.0  # of e4m3
LEAST_SCALE = 1e-12  # of a channel of zeros
READ = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
WRITTEN = {torch.float8_e4m3fn: ("F8_E4M3", 1), torch.bfloat16: ("BF16", 2)}
BLOCK = 1 << 22  # values in memory at a time
ALIGNMENT = 8  # bytes; safetensors' of its header


def quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """e4m3 values and their scales: `weight ≈ values · scales`.

    Args:
        weight: [rows, columns], any floating point.
    Returns: values float8_e4m3fn [rows, columns], scales bf16 [rows, 1]; the largest of a row becomes 448.
    """
    scales = (weight.float().abs().amax(1, keepdim=True) / LARGEST).clamp_min(LEAST_SCALE).to(torch.bfloat16)
    # a scale that bf16 rounded down would take the largest value beyond what e4m3 holds
    values = (weight.float() / scales.float()).clamp_(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return values, scales


def convert(folder: HfFolder, to: Path, said: Callable[[int, int], None] = lambda done, of: None) -> None:
    """Write `folder` as FP8 dynamic, whole or not at all; shards that an earlier attempt finished are kept.

    Args:
        said: told the shards done and their number.
    Raises:
        UserError: a weight is not finite.
    """
    partial = to.with_name(f"{to.name}.partial")
    nemo.copy_description(folder.path, partial)
    places: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(folder.shards):
        tensors = [tensor for tensor in folder.tensors.values() if tensor.shard == shard]
        header, size = _header(tensors)
        places |= {name: shard.name for name in header}
        total += size
        file = partial / shard.name
        if not (file.is_file() and file.stat().st_size == 8 + len(_packed(header)) + size):
            _write_shard(file, tensors, header)
        said(number + 1, len(folder.shards))
    if len(folder.shards) > 1 or (folder.path / weights.INDEX).is_file():
        write(partial / weights.INDEX, weights.index(places, total))
    write(partial / "config.json", json.dumps(config(folder), indent=2) + "\n")
    put_in_place(partial, to)


def config(folder: HfFolder) -> dict[str, Any]:
    """The source's `config.json` with what vLLM and transformers need to know of the weights."""
    made = {key: value for key, value in folder.config.items() if key not in ("torch_dtype", "dtype")} | {"dtype": "bfloat16"}
    made["head_dim"] = folder.architecture.head_dim  # a width-pruned model's is not hidden_size over heads
    common = {"num_bits": 8, "type": "float", "symmetric": True}
    made["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**common, "strategy": "channel", "dynamic": False, "observer": "minmax"},
                "input_activations": {**common, "strategy": "token", "dynamic": True},
                "output_activations": None,
            }
        },
    }
    return made


def blocks(tensor: Tensor) -> Iterator[torch.Tensor]:
    """A tensor's values some rows at a time, read from their place in the file; nothing of it stays mapped.

    Raises:
        UserError: the file ends too soon, or a value is not finite.
    """
    rows, columns = tensor.shape if len(tensor.shape) == 2 else (1, tensor.shape[0])
    width = READ[tensor.dtype].itemsize * columns
    each = max(1, BLOCK // columns)
    with tensor.shard.open("rb") as file:
        file.seek(tensor.start)
        for start in range(0, rows, each):
            content = bytearray(width * (min(start + each, rows) - start))
            if file.readinto(content) != len(content):
                raise UserError(f"{tensor.shard} ends before {tensor.name} does", "fetch this file again")
            values = torch.frombuffer(content, dtype=READ[tensor.dtype]).view(-1, columns)
            if not torch.isfinite(values.sum(dtype=torch.float64)):  # the sum of finite values of 32 bits is finite in 64
                raise UserError(
                    f"{tensor.name} of {tensor.shard} holds values that are not finite", "the training that made it failed"
                )
            yield values


def _header(tensors: list[Tensor]) -> tuple[dict[str, dict[str, Any]], int]:
    """Header of the output shard without its metadata, and the bytes of its tensors: what an index counts in `total_size`."""
    header: dict[str, dict[str, Any]] = {}
    at = 0
    for tensor in tensors:
        parts = [(tensor.name, torch.bfloat16, tensor.shape)]
        if tensor.is_linear:
            parts = [
                (tensor.name, torch.float8_e4m3fn, tensor.shape),
                (f"{tensor.name}_scale", torch.bfloat16, (tensor.shape[0], 1)),
            ]
        for name, dtype, shape in parts:
            kind, width = WRITTEN[dtype]
            size = width * torch.Size(shape).numel()
            header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
            at += size
    return header, at


def _packed(header: dict[str, Any]) -> bytes:
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return text + b" " * (-len(text) % ALIGNMENT)


def _write_shard(file: Path, tensors: list[Tensor], header: dict[str, Any]) -> None:
    with whole_file(file) as partial, partial.open("wb") as out:
        packed = _packed(header)
        out.write(struct.pack("<Q", len(packed)) + packed)
        for tensor in tensors:
            scales = []
            for block in blocks(tensor):
                if tensor.is_linear:
                    block, scale = quantise(block)
                    scales.append(scale)
                _append(out, block if tensor.is_linear else block.to(torch.bfloat16))
            for scale in scales:  # behind the values, as the header says
                _append(out, scale)
        out.flush()
        os.fsync(out.fileno())


def _append(out: BinaryIO, values: torch.Tensor) -> None:
    out.write(memoryview(values.contiguous().view(torch.uint8).numpy()))
