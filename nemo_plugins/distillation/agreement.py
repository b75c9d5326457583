"""What a distillation is watched by, token by token: the student's cross-entropy, and whether it agrees with its teacher."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from nemo_plugins.training.logprobs import token_logprobs
from nemo_plugins.training.vocabulary_parallel import Group


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
    return -token_logprobs(logits, labels, group=group)
