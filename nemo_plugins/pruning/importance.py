"""How important a neuron, a channel, a head or a layer is, from activations alone. Pure torch, no NeMo.

Width, arXiv 2407.14679: a channel's activations become one number a sample (over the sequence), those one number (over the
samples). The Bielik paper takes the mean of |a| over the sequence and L2 over the samples, which ModelOpt measures, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_plugins.configs.schema import Aggregate


def over_sequence(activations: Tensor, how: Aggregate) -> Tensor:
    """One number a sample and channel, `[b, f]` in fp32, from `[s, b, f]`: mean of |a|, L2 of a, or variance of a."""
    activations = activations.float()
    if how is Aggregate.mean:
        return activations.abs().mean(0)
    if how is Aggregate.l2:
        return activations.square().sum(0).sqrt()
    return activations.var(0, correction=0)


@dataclass
class Moments:
    """Sums over samples of what `over_sequence` gives: every aggregation over the samples follows from them.

    Attributes:
        total, squares: Σx and Σx² over the samples, `[…, f]`.
        samples: how many.
    """

    total: Tensor
    squares: Tensor
    samples: int

    def importance(self, how: Aggregate) -> Tensor:
        """Importance of each channel, `[…, f]`: mean, L2 or variance over the samples."""
        if how is Aggregate.mean:
            return self.total / self.samples
        if how is Aggregate.l2:
            return self.squares.sqrt()
        return (self.squares / self.samples - (self.total / self.samples).square()).clamp_min(0)


def head_importance(channels: Tensor, heads: int) -> Tensor:
    """Importance of each head, `[…, heads]`, from that of the channels at the output projection's input: L2 over a head's own.

    As modelopt/torch/nas/plugins/megatron.py `_estimate_all_head_importance`.
    """
    return torch.linalg.vector_norm(channels.unflatten(-1, (heads, -1)), dim=-1)


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's rank correlation of two vectors of scores `[n]`, ties at their mean rank. 1.0 where neither varies."""
    ranks = torch.stack([_ranks(one), _ranks(other)])
    if (ranks.std(1) == 0).any():
        return 1.0 if ranks[0].equal(ranks[1]) else 0.0
    return torch.corrcoef(ranks)[0, 1].item()


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = values.flatten().unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]
