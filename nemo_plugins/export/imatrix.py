"""The importance matrix of llama.cpp's quantisation: mean square of what each column of a weight multiplies.

llama.cpp's `llama-imatrix` collects it while its own graph runs; here transformers runs the folder on the text of the language,
and the sums are the same. Column weights are what a block's scale and minimum are fitted with (`quantize_row_q4_K_impl`).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from nemo_plugins.runs.atomic import whole_file
from nemo_plugins.runs.errors import Failed

NAMES = {  # transformers' → llama.cpp's
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
MARK = (0x5A17, 0x2B)  # threads and file type that no one asks for, to find the structure by
IMATRIX_AT = 24  # bytes into llama_model_quantize_params (llama.h): two ints, two enums, six bools, padding


class _Column(ctypes.Structure):
    """`llama_model_imatrix_data` of llama.h."""

    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.POINTER(ctypes.c_float)), ("size", ctypes.c_size_t)]


def gguf_name(module: str) -> str | None:
    """`model.layers.3.mlp.up_proj` → `blk.3.ffn_up.weight`; None for what is no linear layer inside the layers."""
    parts = module.split(".")
    if parts[:2] != ["model", "layers"] or ".".join(parts[3:]) not in NAMES:
        return None
    return f"blk.{parts[2]}.{NAMES['.'.join(parts[3:])]}.weight"


@torch.no_grad()
def measure(model: torch.nn.Module, windows: Iterable[torch.Tensor]) -> dict[str, np.ndarray]:
    """Mean square of each linear layer's inputs over all tokens.

    Args:
        model: a transformers model in evaluation mode.
        windows: token ids, [tokens] each.
    Returns: llama.cpp's name of the weight → float32 [columns].
    """
    sums: dict[str, torch.Tensor] = {}
    tokens = 0

    def collect(name: str):
        def hook(_module, inputs) -> None:
            squares = inputs[0].detach().float().flatten(0, -2).square().sum(0, dtype=torch.float64)
            sums[name] = sums[name] + squares if name in sums else squares

        return hook

    named = ((gguf_name(name), module) for name, module in model.named_modules())
    hooks = [module.register_forward_pre_hook(collect(name)) for name, module in named if name]
    try:
        for window in windows:
            model.model(window[None].to(model.device), use_cache=False)
            tokens += len(window)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (total / tokens).float().cpu().numpy() for name, total in sums.items()}


def save(path: Path, matrix: Mapping[str, np.ndarray], *, windows: int, seq_length: int, dataset: str) -> None:
    """Write llama.cpp's own file of it, which `llama-quantize --imatrix` reads."""
    import gguf

    with whole_file(path) as partial:
        writer = gguf.GGUFWriter(partial, arch="")
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", [dataset])
        writer.add_uint32("imatrix.chunk_count", windows)
        writer.add_uint32("imatrix.chunk_size", seq_length)
        tokens = np.array([windows * seq_length], np.float32)
        for name, values in matrix.items():
            writer.add_tensor(f"{name}.in_sum2", (values * tokens)[None])
            writer.add_tensor(f"{name}.counts", tokens[None])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def load(path: Path) -> dict[str, np.ndarray]:
    """Read `save`'s file back."""
    import gguf

    tensors = {tensor.name: np.array(tensor.data, np.float32).ravel() for tensor in gguf.GGUFReader(path).tensors}
    names = [name.removesuffix(".in_sum2") for name in tensors if name.endswith(".in_sum2")]
    return {name: tensors[f"{name}.in_sum2"] / tensors[f"{name}.counts"] for name in names}


@contextmanager
def given_to(params, matrix: Mapping[str, np.ndarray]):
    """Lend the matrix to cyllama's quantisation parameters for the time of a `with`.

    cyllama 0.2.18 shows the field `imatrix` but cannot set it. Its object holds llama.cpp's structure as it is, so the pointer
    is put where llama.h has it, after finding the structure by two marked values; a build with another layout is refused.

    Raises:
        Failed: the structure is not where it was.
    """
    size = type(params).__basicsize__
    before = params.nthread, params.ftype
    params.nthread, params.ftype = MARK
    held = ctypes.string_at(id(params), size)
    params.nthread, params.ftype = before
    at = held.find(struct.pack("<ii", *MARK))
    place = id(params) + at + IMATRIX_AT
    if at < 0 or at + IMATRIX_AT + 8 > size or ctypes.c_void_p.from_address(place).value is not None:
        raise Failed("this build of cyllama lays its parameters out otherwise", "install the version of requirements.lock")
    columns = (_Column * (len(matrix) + 1))()  # the last one is empty: the end
    kept = {name: np.ascontiguousarray(values, np.float32) for name, values in matrix.items()}
    for column, (name, values) in zip(columns, kept.items(), strict=False):
        column.name, column.size = name.encode(), values.size
        column.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    ctypes.c_void_p.from_address(place).value = ctypes.addressof(columns)
    try:
        yield
    finally:
        ctypes.c_void_p.from_address(place).value = None
