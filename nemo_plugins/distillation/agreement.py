"""What a distillation is watched by, token by token: the student's cross-entropy, and whether it agrees with its teacher."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from nemo_plugins.distillation.losses import Group

ROWS = 64  # tokens at a time: fp32 copies of that many rows of logits and no more


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


@torch.no_grad()
def cross_entropy(logits: Tensor, labels: Tensor, group: Group = None) -> Tensor:
    """−log p of each label, nats, fp32 `[s, b]`.

    Args:
        logits: `[s, b, v/tp]`; the vocabulary is split over `group` into equal shards in rank order.
        labels: `[s, b]`, over the whole vocabulary.
    """
    s, b, v = logits.shape
    rows, wanted = logits.reshape(s * b, v), labels.reshape(s * b)
    wanted = wanted - (0 if group is None else group.rank() * v)
    inside = (wanted >= 0) & (wanted < v)
    chosen = rows.gather(-1, wanted.where(inside, 0).unsqueeze(-1)).squeeze(-1).float().masked_fill(~inside, float("-inf"))
    parts = [torch.logsumexp(part.float(), -1) for part in rows.split(ROWS)]
    total = torch.cat(parts) if parts else chosen
    if group is not None:
        distributed.all_reduce(chosen, distributed.ReduceOp.MAX, group)
        top = total.clone()
        distributed.all_reduce(top, distributed.ReduceOp.MAX, group)
        share = (total - top).exp()
        distributed.all_reduce(share, distributed.ReduceOp.SUM, group)
        total = top + share.log()
    return (total - chosen).reshape(s, b)
