"""Attention of Megatron's local layers by torch, which keeps no scores: Megatron's own keeps two `[b, heads, s, s]` a layer."""

from __future__ import annotations

from functools import partial

import torch
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.enums import AttnMaskType
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

FORBIDDEN = -10000.0  # what Megatron puts in place of a forbidden score (megatron/core/transformer/utils.py:48)
megatrons = DotProductAttention.forward


def forward(
    self: DotProductAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    attn_mask_type: AttnMaskType | None = None,
    attention_bias: Tensor | None = None,
    packed_seq_params: PackedSeqParams | None = None,
) -> Tensor:
    """In place of `DotProductAttention.forward`, with its results; what torch does not do, goes to Megatron's own.

    Args:
        query: `[s, b, heads, d]`; key and value `[s', b, groups, d]`.
        attention_mask: true where forbidden, any shape that broadcasts to `[b, heads, s, s']`, or of whole numbers, `[b, s]`:
            the document of each place, of which a token sees those before it and itself. Without one a causal layer lets it
            see all of those, and a single query everything.
        attn_mask_type: not used, as in Megatron's: a layer's own decides.
    Returns: `[s, b, heads · d]`.
    """
    softmax = self.scale_mask_softmax
    special = (softmax.window_size, softmax.scale, self.softmax_offset, attention_bias, packed_seq_params)
    documents = None if attention_mask is None or attention_mask.dtype is torch.bool else attention_mask
    if any(one is not None for one in special) or (self.training and self.attention_dropout.p):
        attention_mask = attention_mask if documents is None else block_diagonal(documents)
        return megatrons(self, query, key, value, attention_mask, attn_mask_type, attention_bias, packed_seq_params)
    if documents is not None:
        return by_document(query, key, value, documents, self.softmax_scale)
    causal = attention_mask is None and softmax.attn_mask_type is AttnMaskType.causal and len(query) > 1
    if causal and len(query) != len(key):
        raise ValueError(f"expected as many keys as queries of a causal layer without a mask, got {len(key)} and {len(query)}")
    context = attend(
        *(tensor.permute(1, 2, 0, 3) for tensor in (query, key, value)),
        attn_mask=None if attention_mask is None else additive(attention_mask, computed_in(query)),
        is_causal=causal,
        scale=self.softmax_scale,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return context.permute(2, 0, 1, 3).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor, **options) -> Tensor:
    """torch's attention, `[b, heads, s, d]`."""
    dtype = computed_in(query)
    return scaled_dot_product_attention(query.to(dtype), key.to(dtype), value.to(dtype), **options).to(query.dtype)


def computed_in(query: Tensor) -> torch.dtype:
    """On a CPU fp32 in place of bf16: torch's kernel takes twice as long in bf16 there, in its backward pass."""
    return torch.float32 if query.device.type == "cpu" and query.dtype is torch.bfloat16 else query.dtype


def by_document(query: Tensor, key: Tensor, value: Tensor, documents: Tensor, scale: float) -> Tensor:
    """Causal attention within each document of `[b, s]`, one call for each: nothing is as large as the square of s."""
    causal = partial(attend, is_causal=True, scale=scale, enable_gqa=query.shape[2] != key.shape[2])
    rows = [tensor.permute(1, 2, 0, 3) for tensor in (query, key, value)]
    if all(len(lengths) == 1 for lengths in runs(documents)):
        return causal(*rows).permute(2, 0, 1, 3).flatten(2)
    outputs = []
    for row, lengths in enumerate(runs(documents)):
        shares = [tensor[row : row + 1].split(lengths, 2) for tensor in rows]
        outputs.append(torch.cat([causal(*share) for share in zip(*shares, strict=True)], 2))
    return torch.cat(outputs).permute(2, 0, 1, 3).flatten(2)


def runs(documents: Tensor) -> list[list[int]]:
    """Lengths of the documents of each row, in order. Found once for all layers: each time waits for the device."""
    cached = getattr(documents, "runs", None)
    if cached is None:
        cached = documents.runs = [torch.unique_consecutive(row, return_counts=True)[1].tolist() for row in documents]
    return cached


def block_diagonal(documents: Tensor) -> Tensor:
    """The mask that Megatron's own attention takes in their place: bool `[b, 1, s, s]`, true where forbidden."""
    return ~(documents[:, None, :, None] == documents[:, None, None]).tril()


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to the scores where a mask is true. Made once for all layers: torch would keep one for each of them."""
    cached = getattr(mask, "additive", None)
    if cached is None or cached.dtype != dtype:
        cached = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, FORBIDDEN)
        mask.additive = cached
    return cached
