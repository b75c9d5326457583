"""GGUF files of real shapes with random weights, to time a model that nobody has trained yet.

The bytes are a block's own layout (ggml-common.h) with small scales and random values: a kernel takes as long over them as over
any others, and what is read from memory is what the trained file would have there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nemo_plugins.configs.schema import Format, Target
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.planning import formats
from nemo_plugins.planning.formats import BLOCKS, GgufTensor
from nemo_plugins.runs.atomic import whole_file

SCALES = {"q8_0": (0,), "q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,), "q5_0": (0,), "q5_1": (0, 2)}  # bytes of fp16 scales
SMALL = np.frombuffer(np.array([1e-4], np.float16).tobytes(), np.uint8)
TILE = 1 << 16  # blocks that are drawn; longer tensors repeat them


def kinds(model: Architecture, target: Target) -> list[tuple[str, GgufTensor, str]]:
    """Name in the file, tensor and block type of everything that a GGUF file of this format holds."""
    types = []
    for tensor in formats.outer_tensors(model):
        is_output = tensor.name == ("token_embd" if model.tied_embeddings else "output")
        types.append((tensor.file_name, tensor, _kind(tensor, target, False, is_output)))
    for layer in range(model.num_layers):
        more = formats.use_more_bits(layer, model.num_layers)
        types += [
            (f"blk.{layer}.{tensor.file_name}", tensor, _kind(tensor, target, more, False))
            for tensor in formats.layer_tensors(model)
        ]
    return types


def tensor_bytes(tensor: GgufTensor, kind: str) -> int:
    """Bytes of a tensor in blocks of a kind."""
    values, size = BLOCKS[kind]
    return tensor.rows * tensor.columns // values * size


def bytes_per_token(model: Architecture, target: Target) -> int:
    """Bytes of weights read for one token: all but the input embedding, of which one row is looked up."""
    skipped = () if model.tied_embeddings else ("token_embd",)
    return sum(tensor_bytes(tensor, kind) for _, tensor, kind in kinds(model, target) if tensor.name not in skipped)


def write(path: Path, model: Architecture, target: Target, seed: int = 0) -> None:
    """Write the file, tensor by tensor, whole or not at all."""
    import gguf

    with whole_file(path) as partial:
        writer = gguf.GGUFWriter(partial, FAMILIES[model.family].gguf)
        writer.add_block_count(model.num_layers)
        writer.add_context_length(model.context_length)
        writer.add_embedding_length(model.hidden_size)
        writer.add_feed_forward_length(model.ffn_hidden_size)
        writer.add_head_count(model.num_attention_heads)
        writer.add_head_count_kv(model.num_query_groups)
        writer.add_key_length(model.head_dim)
        writer.add_value_length(model.head_dim)
        writer.add_rope_dimension_count(model.head_dim)
        writer.add_rope_freq_base(model.rope_base)
        writer.add_layer_norm_rms_eps(model.norm_eps)
        writer.add_vocab_size(model.vocab_size)
        writer.add_tokenizer_model("none")
        tensors = kinds(model, target)
        types = {kind: gguf.GGMLQuantizationType[kind.upper()] for _, _, kind in tensors}
        for name, tensor, kind in tensors:
            shape = (tensor.columns,) if tensor.rows == 1 else (tensor.rows, tensor.columns)
            plain = {"f32": np.float32, "f16": np.float16}.get(kind)
            stored = shape if plain else (tensor.rows, tensor_bytes(tensor, kind) // tensor.rows)
            writer.add_tensor_info(name, stored, np.dtype(plain or np.uint8), tensor_bytes(tensor, kind), types[kind])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        rng = np.random.default_rng(seed)
        tiles = {kind: _tile(kind, rng) for kind in types}
        for _, tensor, kind in tensors:
            writer.write_tensor_data(np.resize(tiles[kind], tensor_bytes(tensor, kind)))
        writer.close()


def _kind(tensor: GgufTensor, target: Target, more_bits: bool, is_output: bool) -> str:
    if target in (Target.f32, Target.f16):
        return "f32" if tensor.rows == 1 else target.value
    return formats.gguf_kind(tensor, Format(target.value), more_bits, is_output)


def _tile(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Bytes of `TILE` blocks."""
    if kind in ("f32", "f16"):
        values = rng.normal(scale=0.02, size=TILE).astype({"f32": np.float32, "f16": np.float16}[kind])
        return values.view(np.uint8)
    blocks = rng.integers(0, 256, size=(TILE, BLOCKS[kind][1]), dtype=np.uint8)
    for at in SCALES[kind]:
        blocks[:, at : at + 2] = SMALL
    return blocks.ravel()
