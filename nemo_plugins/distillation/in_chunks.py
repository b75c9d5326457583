"""A loss of logits computed a few tokens at a time, its gradient with it: no fp32 copy of `[s, b, v]` exists. Pure torch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from nemo_plugins.training.vocabulary_parallel import Group, all_reduce, chunks

TEMPORARIES = 8  # tensors as wide as the vocabulary that one chunk holds at its peak
SHARE = 50  # a chunk's temporaries take at most 1/50 of the student's logits …
LEAST_ROWS = 4  # … but at least this many tokens at a time, and these bytes, since a small operation is mostly its call:
LEAST_BYTES = {"cpu": 2 * 2**20, "cuda": 64 * 2**20}


class WithGradient(torch.autograd.Function):
    """A loss `[s, b]` whose gradient with respect to the logits, `[s, b, v]`, is already known for each token."""

    @staticmethod
    def forward(ctx, student_logits: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, of_loss: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        # In place, so that backward needs no memory, unless the graph is kept and the buffer is needed again.
        if torch._C._autograd._get_current_graph_task_keep_graph():
            gradient = gradient.clone()
        for at in chunked(gradient, of_loss.dtype):  # mixed dtypes: on a CPU the whole would become an fp32 copy
            gradient[at].mul_(of_loss[at].unsqueeze(-1))
        return gradient, None, None


def log_probabilities(logits: list[Tensor], temperature: float, dtype: torch.dtype, group: Group) -> list[Tensor]:
    """Log-softmax over the whole vocabulary of each of several `[…, v/tp]`, with two collectives for all of them together.

    The maximum goes first and is never put back: logits of ±10⁴ keep the digits that log Σ exp would lose.
    """
    scaled = [x.to(dtype) / temperature for x in logits]
    if group is None:
        return [x.log_softmax(-1) for x in scaled]
    top = all_reduce(torch.stack([x.amax(-1) for x in scaled], -1), distributed.ReduceOp.MAX, group)
    scaled = [x.sub_(top[..., i, None]) for i, x in enumerate(scaled)]
    total = all_reduce(torch.stack([x.exp().sum(-1) for x in scaled], -1), distributed.ReduceOp.SUM, group)
    return [x.sub_(total[..., i, None].log()) for i, x in enumerate(scaled)]


def chunked(logits: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, slice]]:
    return chunks(logits, _rows_at_once(logits, dtype))


def _rows_at_once(logits: Tensor, dtype: torch.dtype) -> int:
    """How many tokens of `[s, b, v]` to compute at a time in `dtype`."""
    budget = max(logits.numel() * logits.element_size() // SHARE, LEAST_BYTES[logits.device.type])
    return max(LEAST_ROWS, budget // max(1, logits.shape[-1] * dtype.itemsize * TEMPORARIES))


def gradient_buffer(student_logits: Tensor) -> Tensor | None:
    wanted = torch.is_grad_enabled() and student_logits.requires_grad
    return torch.empty_like(student_logits, requires_grad=False) if wanted else None


def precise(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(x.dtype is torch.float64 for x in tensors) else torch.float32
