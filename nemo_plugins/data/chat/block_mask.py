"""Attention that stays inside a document, as a dense mask: for layers without Transformer Engine's packed (THD) sequences."""

from __future__ import annotations

from torch import Tensor


def block_diagonal(document: Tensor) -> Tensor:
    """Megatron's attention mask of packed windows: causal, and blind to other documents.

    Args:
        document: index of each position's document, `[s]` or `[b, s]`; padding has one of its own, so that every position
            sees at least itself and no softmax is empty.
    Returns: bool `[s, s]` or, as Megatron takes it, `[b, 1, s, s]`; true where attention is forbidden.
    """
    forbidden = (document.unsqueeze(-1) != document.unsqueeze(-2)).logical_or_(_later(document))
    return forbidden if document.dim() == 1 else forbidden.unsqueeze(1)


def _later(document: Tensor) -> Tensor:
    """True where the key comes after the query, bool `[s, s]`."""
    size = document.shape[-1]
    return document.new_ones(size, size, dtype=bool).triu_(1)
