"""Bytes of a model's weights in each deployment format, tensor by tensor.

GGUF: llama.cpp's `llama_tensor_get_type` (src/llama-quant.cpp) and the block structs of ggml-common.h. FP8 and NVFP4: what
compressed-tensors writes (weights only; scales of activations, a few bytes a tensor, are not counted). Headers are not counted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from nemo_plugins.configs.schema import Format
from nemo_plugins.models.architecture import Architecture

# values and bytes of a block
BLOCKS = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),  # fp16 scale, 32 int8
    "q5_0": (32, 22),  # fp16 scale, 32 fifth bits, 32 x 4 bits
    "q5_1": (32, 24),  # fp16 scale and minimum, 32 fifth bits, 32 x 4 bits
    "q4_k": (256, 144),  # two fp16 scales, 12 bytes of sub-block scales, 256 x 4 bits
    "q5_k": (256, 176),  # as q4_k and 256 fifth bits
    "q6_k": (256, 210),  # fp16 scale, 16 int8 sub-block scales, 256 x 6 bits
}
BASE = {Format.q8_0: "q8_0", Format.q6_k: "q6_k", Format.q5_k_m: "q5_k", Format.q4_k_m: "q4_k"}
FALLBACK = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}  # of a row that blocks of 256 do not divide
MORE_BITS = ("attn_v", "ffn_down")  # Q6_K in some layers of the _M mixes


class GgufTensor(NamedTuple):
    """A weight under llama.cpp's name, [rows, columns]; a row is what one output is computed from.

    Norms and biases have one row, and llama.cpp keeps them in fp32. The name of a bias ends in `.bias`; the others are weights.
    """

    name: str
    rows: int
    columns: int

    @property
    def file_name(self) -> str:
        """Its name in a GGUF file, behind that of its layer."""
        return self.name if self.name.endswith(".bias") else f"{self.name}.weight"


def layer_tensors(model: Architecture) -> list[GgufTensor]:
    """The tensors of each layer."""
    hidden, ffn = model.hidden_size, model.ffn_hidden_size
    query, keys = model.query_size, model.key_size
    linear = [
        GgufTensor("attn_q", query, hidden),
        GgufTensor("attn_k", keys, hidden),
        GgufTensor("attn_v", keys, hidden),
        GgufTensor("attn_output", hidden, query),
        *([GgufTensor("ffn_gate", ffn, hidden)] if model.gated else []),
        GgufTensor("ffn_up", ffn, hidden),
        GgufTensor("ffn_down", hidden, ffn),
    ]
    norms = [GgufTensor("attn_norm", 1, hidden), GgufTensor("ffn_norm", 1, hidden)]
    return [*norms, *linear, *(GgufTensor(vector.gguf, 1, size) for vector, size in model.layer_vectors)]


def outer_tensors(model: Architecture) -> list[GgufTensor]:
    """The tensors outside the layers; a tied model has no `output`, its `token_embd` serves as one."""
    matrices = ["token_embd"] if model.tied_embeddings else ["token_embd", "output"]
    return [
        *(GgufTensor(name, model.vocab_size, model.hidden_size) for name in matrices),
        GgufTensor("output_norm", 1, model.hidden_size),
    ]


def use_more_bits(layer: int, layers: int) -> bool:
    """Whether the _M mixes give this layer's `attn_v` and `ffn_down` Q6_K (llama.cpp's function of that name)."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def tensor_bytes(tensor: GgufTensor, format: Format, *, more_bits: bool = False, is_output: bool = False) -> int:
    """Bytes of one tensor.

    Args:
        more_bits: it lies in a layer for which `use_more_bits` holds.
        is_output: it is the output projection, or the embedding of a tied model.
    """
    if format in BASE:
        return tensor.rows * _row_bytes(gguf_kind(tensor, format, more_bits, is_output), tensor.columns)
    is_linear = tensor.name not in ("token_embd", "output") and tensor.rows > 1
    if format is Format.fp8 and is_linear:
        return tensor.rows * (tensor.columns + 2)  # a bf16 scale for each output
    if format is Format.nvfp4 and is_linear:
        packed, scales = -(-tensor.columns // 2), -(-tensor.columns // 16)  # two values a byte, an fp8 scale for sixteen
        return tensor.rows * (packed + scales) + 4  # and an fp32 scale for the tensor
    return tensor.rows * tensor.columns * (4 if format is Format.fp32 else 2)


def weight_bytes(model: Architecture, format: Format) -> int:
    """Bytes of all weights as `format` stores them."""
    return _layers_bytes(model, format) + sum(_outer_bytes(model, format).values())


def bytes_per_token(model: Architecture, format: Format) -> int:
    """Bytes of weights that are read to generate one token: all but the input embedding, of which one row is looked up."""
    outer = _outer_bytes(model, format)
    return _layers_bytes(model, format) + sum(outer.values()) - (0 if model.tied_embeddings else outer["token_embd"])


def _layers_bytes(model: Architecture, format: Format) -> int:
    better = _better_layers(model.num_layers) if format in (Format.q4_k_m, Format.q5_k_m) else 0
    return sum(
        layers * _layer_bytes(_one_layer(model), format, more_bits)
        for layers, more_bits in ((model.num_layers - better, False), (better, True))
        if layers
    )


# A grid asks for thousands of models that differ in few sizes: what depends on those alone is kept.
def _one_layer(model: Architecture) -> tuple[int, int, int, int, int, bool, str]:
    return (
        model.hidden_size,
        model.ffn_hidden_size,
        model.num_attention_heads,
        model.num_query_groups,
        model.head_dim,
        model.gated,
        model.family,
    )


@lru_cache(maxsize=4096)
def _layer_bytes(sizes: tuple[int, int, int, int, int, bool, str], format: Format, more_bits: bool) -> int:
    hidden, ffn, heads, groups, head_dim, gated, family = sizes
    model = Architecture(1, hidden, ffn, heads, groups, head_dim, 1, gated=gated, family=family)
    return sum(tensor_bytes(tensor, format, more_bits=more_bits) for tensor in layer_tensors(model))


def _outer_bytes(model: Architecture, format: Format) -> dict[str, int]:
    output = "token_embd" if model.tied_embeddings else "output"
    return {tensor.name: tensor_bytes(tensor, format, is_output=tensor.name == output) for tensor in outer_tensors(model)}


@lru_cache(maxsize=1024)
def _better_layers(layers: int) -> int:
    return sum(use_more_bits(layer, layers) for layer in range(layers))


def gguf_kind(tensor: GgufTensor, format: Format, more_bits: bool, is_output: bool) -> str:
    """The block type, of `BLOCKS`, that llama.cpp stores a tensor in."""
    if tensor.rows == 1:
        return "f32"
    kind = BASE[format]
    if is_output:
        # llama.cpp takes Q8_0 at once where the base kind's blocks do not divide the row
        kind = "q6_k" if kind != "q8_0" and tensor.columns % BLOCKS[kind][0] == 0 else "q8_0"
    elif more_bits and tensor.name in MORE_BITS and format in (Format.q4_k_m, Format.q5_k_m):
        kind = "q6_k"
    if tensor.columns % BLOCKS[kind][0]:
        kind = FALLBACK.get(kind, "f16")
    return kind if tensor.columns % BLOCKS[kind][0] == 0 else "f16"


def _row_bytes(kind: str, columns: int) -> int:
    values, size = BLOCKS[kind]
    return columns // values * size
