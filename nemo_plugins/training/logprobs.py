"""Log-probabilities of given tokens, and entropies, from logits whose vocabulary may be split over a tensor-parallel group.

Memory: a few rows at a time are fp32, never all of `[s, b, v]`. Beside the logits themselves, backward holds their gradient in
their own dtype and nothing else as wide as the vocabulary; without gradients nothing is kept at all.

Tensor parallelism: every rank holds the same log-probabilities and gets the gradient of its own shard. Autograd through an
all-reduce would give each rank that gradient tp times over, so it is written by hand:
∂ log p(y) / ∂z = (1[y] − softmax(z)) / T.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from nemo_plugins.training.vocabulary_parallel import Group, all_reduce, chunks, columns, ranks

LOWEST = float("-inf")
CHUNK_BYTES = 16 * 2**20  # of one fp32 temporary as wide as the vocabulary; two or three live at a time


def token_logprobs(logits: Tensor, tokens: Tensor, *, temperature: float = 1.0, group: Group = None) -> Tensor:
    """log softmax(logits / T) at each token, `[s, b]` in fp32 (float64 for float64 logits).

    Args:
        logits: `[s, b, v/tp]`, any floating dtype and strides; −inf is probability 0.
        tokens: `[s, b]`, over the whole vocabulary. One outside it, such as −100, has −inf: for a mask to leave out.
        temperature: the one that the tokens were sampled at.
        group: over which the vocabulary is split into equal shards, in rank order. None: not split.
    Returns: the same on every rank of the group.

    Raises ValueError for shapes that do not fit and T ≤ 0.
    """
    _check(logits, tokens.shape, temperature)
    return _TokenLogProbs.apply(logits, tokens, temperature, group if ranks(group) > 1 else None)


@torch.no_grad()
def token_entropies(logits: Tensor, *, temperature: float = 1.0, group: Group = None) -> Tensor:
    """Entropy of softmax(logits / T) at each position, nats, `[s, b]` in fp32 (float64 for float64 logits); no gradient.

    Arguments and errors as for `token_logprobs`.
    """
    _check(logits, logits.shape[:2], temperature)
    group = group if ranks(group) > 1 else None
    log_total = _log_totals(logits, temperature, group)
    mean = torch.empty_like(log_total)  # of the scaled logits, by probability
    for at in _chunks(logits):
        scaled = logits[at].to(log_total.dtype) / temperature
        p = (scaled - log_total[at].unsqueeze(-1)).exp_()
        mean[at] = p.mul_(scaled).masked_fill_(scaled == LOWEST, 0).sum(-1)
    return log_total - all_reduce(mean, distributed.ReduceOp.SUM, group)


def summed(logp: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each response, `[b]`, from `[b, s]` of its tokens; what the mask leaves out may be −inf or nan."""
    return logp.masked_fill(~mask.bool(), 0).sum(-1)


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, tokens: Tensor, temperature: float, group: Group) -> Tensor:
        log_total = _log_totals(logits, temperature, group)
        column, inside = columns(tokens, logits.shape[-1], group)
        chosen = logits.gather(-1, column.unsqueeze(-1)).squeeze(-1).to(log_total.dtype) / temperature
        chosen = all_reduce(chosen.masked_fill_(~inside, LOWEST), distributed.ReduceOp.MAX, group)
        ctx.save_for_backward(logits, log_total, column, inside)
        ctx.temperature = temperature
        return chosen - log_total

    @staticmethod
    @once_differentiable
    def backward(ctx, of_logp: Tensor) -> tuple[Tensor, None, None, None]:
        logits, log_total, column, inside = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        of_logp = of_logp / ctx.temperature
        for at in _chunks(logits):
            p = (logits[at].to(log_total.dtype) / ctx.temperature).sub_(log_total[at].unsqueeze(-1)).exp_()
            p.mul_(-of_logp[at].unsqueeze(-1))
            p.scatter_add_(-1, column[at].unsqueeze(-1), (of_logp[at] * inside[at]).unsqueeze(-1))
            gradient[at] = p
        return gradient, None, None, None


def _log_totals(logits: Tensor, temperature: float, group: Group) -> Tensor:
    """log Σ exp(logits / T) over the whole vocabulary, `[s, b]`."""
    dtype = torch.float64 if logits.dtype is torch.float64 else torch.float32
    totals = torch.empty(logits.shape[:2], dtype=dtype, device=logits.device)
    for at in _chunks(logits):
        totals[at] = (logits[at].to(dtype) / temperature).logsumexp(-1)
    if group is None:
        return totals
    top = all_reduce(totals.clone(), distributed.ReduceOp.MAX, group)
    top = top.masked_fill(top == LOWEST, 0)
    return top + all_reduce((totals - top).exp_(), distributed.ReduceOp.SUM, group).log()


def _chunks(logits: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices that cover the positions of `[s, b, v]`, each at most CHUNK_BYTES in fp32, or one position."""
    return chunks(logits, max(1, CHUNK_BYTES // (4 * max(1, logits.shape[-1]))))


def _check(logits: Tensor, tokens: torch.Size, temperature: float) -> None:
    if logits.dim() != 3 or logits.shape[:2] != tokens:
        raise ValueError(f"expected logits [s, b, v] and tokens [s, b], got {list(logits.shape)} and {list(tokens)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
