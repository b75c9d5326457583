"""Logits `[s, b, v/tp]` whose vocabulary is split over a tensor-parallel group into equal shards, in rank order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor, distributed

Group: TypeAlias = distributed.ProcessGroup | None  # None: the vocabulary is whole


def vocabulary_group() -> Group:
    """The processes over which the vocabulary is split; None where it is whole."""
    from megatron.core import parallel_state  # here: the losses that need no more than torch import this module

    group = parallel_state.get_tensor_model_parallel_group()
    return group if group.size() > 1 else None


def ranks(group: Group) -> int:
    return 1 if group is None else group.size()


def all_reduce(values: Tensor, operation: distributed.ReduceOp.RedOpType, group: Group) -> Tensor:
    """Reduce in place over the group. Returns `values`."""
    if group is not None:
        distributed.all_reduce(values, operation, group)
    return values


def columns(tokens: Tensor, v: int, group: Group) -> tuple[Tensor, Tensor]:
    """Where each token lies in this shard of `v` tokens, 0 for another shard's, and whether it lies in it: both `[s, b]`."""
    column = tokens.long() - (0 if group is None else group.rank() * v)
    inside = (column >= 0) & (column < v)
    return column.where(inside, 0), inside


def chunks(logits: Tensor, rows: int) -> Iterator[tuple[slice, slice]]:
    """Slices that cover the positions of `[s, b, v]`, each of at most `rows` positions; the same on every rank."""
    s, b, _ = logits.shape
    samples = min(max(b, 1), rows)
    positions = rows // samples
    for i in range(0, s, positions):
        for j in range(0, b, samples):
            yield slice(i, i + positions), slice(j, j + samples)


@torch.no_grad()
def best(logits: Tensor, group: Group = None) -> Tensor:
    """The most likely token, `[s, b]`, of logits `[s, b, v/tp]` with a vocabulary split over `group`; the lowest of equals."""
    value, index = logits.max(-1)
    if group is None:
        return index
    value, index = value.float(), index + group.rank() * logits.shape[-1]
    top = value.clone()
    distributed.all_reduce(top, distributed.ReduceOp.MAX, group)
    index = index.masked_fill(value < top, torch.iinfo(index.dtype).max)
    distributed.all_reduce(index, distributed.ReduceOp.MIN, group)
    return index
