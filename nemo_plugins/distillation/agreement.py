"""What a distillation is watched by, token by token: the student's cross-entropy, and whether it agrees with its teacher."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from nemo_plugins.training.vocabulary_parallel import Group, all_reduce, chunks, columns

ROWS = 64  # tokens at a time: fp32 copies of that many rows of logits and no more


@torch.no_grad()
def cross_entropy(logits: Tensor, labels: Tensor, group: Group = None) -> Tensor:
    """−log p of each label, nats, fp32 `[s, b]`.

    Args:
        logits: `[s, b, v/tp]`; the vocabulary is split over `group` into equal shards in rank order.
        labels: `[s, b]`, over the whole vocabulary.
    """
    column, inside = columns(labels, logits.shape[-1], group)
    chosen = logits.gather(-1, column.unsqueeze(-1)).squeeze(-1).float().masked_fill(~inside, float("-inf"))
    total = torch.empty_like(chosen)
    for at in chunks(logits, ROWS):
        total[at] = logits[at].float().logsumexp(-1)
    if group is not None:
        chosen = all_reduce(chosen, distributed.ReduceOp.MAX, group)
        top = all_reduce(total.clone(), distributed.ReduceOp.MAX, group)
        total = top + all_reduce((total - top).exp(), distributed.ReduceOp.SUM, group).log()
    return total - chosen
