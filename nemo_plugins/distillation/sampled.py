"""A teacher in a few draws from its distribution, and a student's loss against them (arXiv 2503.16870). Pure torch, no NeMo.

With t and s the teacher's and the student's distributions at temperature T, z the student's logits, and x₁ … x_N drawn from t
with replacement:

    loss / T²      −1/N Σᵢ log s(xᵢ) − H(t)          ∂loss/∂z = T · (s − 1/N Σᵢ onehot(xᵢ))

Both are linear in t, so that their mean over the draws is forward KL over the whole vocabulary, KL(t‖s), and its gradient,
T · (s − t), whatever N is. The k largest of t have another gradient. H(t) is recorded, for the entropy of N draws is too small.
A divergence that is not linear in t has no such estimate.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, distributed

from nemo_plugins.distillation.in_chunks import WithGradient, chunked, gradient_buffer, log_probabilities, precise
from nemo_plugins.training.vocabulary_parallel import Group, all_reduce, columns, ranks

WHOLE = 2.0**52  # what probabilities are counted in: the sums of whole numbers do not depend on the order of the terms


def uniforms(seed: int, sample: int, seq_length: int, draws: int) -> Tensor:
    """Numbers in [0, 1) that decide the draws of one sample of the training order, `[s, N]` in float64."""
    return torch.from_numpy(np.random.default_rng([seed, 2, sample]).random((seq_length, draws)))


@torch.no_grad()
def sampled_record(
    teacher_logits: Tensor, numbers: Tensor, *, temperature: float = 1.0, group: Group = None
) -> tuple[Tensor, Tensor]:
    """What `kd_loss_sampled` needs of the teacher.

    Args:
        teacher_logits: `[s, b, v/tp]`. Where `group` splits the vocabulary, the shards of a few tokens at a time are gathered,
            so that the draws are those of an unsplit one.
        numbers: `[s, b, N]` in [0, 1), float64: draw i is the first token whose cumulative probability exceeds the i-th.
        temperature: the logits are divided by it.
    Returns: on every rank, `[s, b, 1 + N]` in int32, the most likely token (the lowest of equals) and the draws; the entropy in
        nats, `[s, b]` in fp32 (float64 for float64 logits), nan where the logits are.
    """
    teacher, dtype = teacher_logits.detach(), precise(teacher_logits)
    tokens = teacher.shape[:2]
    indices = teacher.new_empty((*tokens, 1 + numbers.shape[-1]), dtype=torch.int32)
    entropy = teacher.new_empty(tokens, dtype=dtype)
    for at in chunked(teacher, dtype):
        logits = teacher[at]
        if ranks(group) > 1:
            shards = [torch.empty_like(logits, memory_format=torch.contiguous_format) for _ in range(ranks(group))]
            distributed.all_gather(shards, logits.contiguous(), group)
            logits = torch.cat(shards, -1)
        p = (logits.to(dtype) / temperature).softmax(-1)
        cumulative = (p.double() * WHOLE).long().cumsum(-1)
        below = (numbers[at].to(p.device) * cumulative[..., -1:]).long().minimum(cumulative[..., -1:] - 1)
        indices[at] = torch.cat([logits.argmax(-1, keepdim=True), torch.searchsorted(cumulative, below, right=True)], -1)
        entropy[at] = torch.special.entr(p).sum(-1)
    return indices, entropy


def kd_loss_sampled(
    student_logits: Tensor, indices: Tensor, entropy: Tensor, *, temperature: float = 1.0, group: Group = None
) -> Tensor:
    """An unbiased estimate of the forward KL of each token, `[s, b]`, times T², with an unbiased gradient.

    Args:
        student_logits: `[s, b, v/tp]`.
        indices, entropy: as `sampled_record` returns them, at the same temperature.
        group: as for `kd_loss`.
    Returns: as `kd_loss`; a single token's may be below 0.

    Raises ValueError for a record whose shapes do not fit the student's.
    """
    tokens = student_logits.shape[:2]
    if student_logits.dim() != 3 or indices.dim() != 3 or not indices.shape[:2] == entropy.shape == tokens:
        got = ", ".join(str(list(x.shape)) for x in (student_logits, indices, entropy))
        raise ValueError(f"expected student_logits [s, b, v] with indices [s, b, 1 + N] and entropy [s, b], got {got}")
    student, dtype = student_logits.detach(), precise(student_logits, entropy)
    group = group if ranks(group) > 1 else None
    gradient = gradient_buffer(student_logits)
    loss = student.new_empty(tokens, dtype=dtype)
    share = 1 / (indices.shape[-1] - 1)
    for at in chunked(student, dtype):
        [log_s] = log_probabilities([student[at]], temperature, dtype, group)
        column, inside = columns(indices[at][..., 1:], log_s.shape[-1], group)
        of_draws = (log_s.gather(-1, column).masked_fill(~inside, 0)).sum(-1)
        loss[at] = (-share * all_reduce(of_draws, distributed.ReduceOp.SUM, group) - entropy[at]) * temperature**2
        if gradient is not None:
            gradient[at] = log_s.exp_().scatter_add_(-1, column, inside.to(dtype).mul_(-share)).mul_(temperature)
    return loss if gradient is None else WithGradient.apply(student_logits, loss, gradient)
