"""What a student loses against its teacher, token by token. Pure torch, no NeMo; right when the vocabulary is sharded.

With t and s the teacher's and the student's distributions at temperature T, and z the student's logits:

    kind          loss / T²                                m                   w = s · ∂(loss / T²)/∂s
    forward_kl    KL(t‖s) = Σ t·log(t/s)                                       −t
    reverse_kl    KL(s‖t) = Σ s·log(s/t)                                       s·log(s/t)
    jsd           ½ KL(t‖m) + ½ KL(s‖m)                    ½ t + ½ s           ½ s·log(s/m)
    skewed_kl     KL(t‖m), arXiv 2402.03898                skew·t + (1−skew)·s −(1−skew)·t·s/m

and through the softmax ∂loss/∂z = T · (w − s·Σw), with T² / T = T in front. (What ∂/∂s has besides is the same for every token
of the vocabulary, which the softmax takes out again.) The gradient is written by hand for two reasons. Memory: it is computed
in the forward pass, a few tokens at a time, into one buffer of the student's own dtype, so no fp32 copy of `[s, b, v]` exists.
Tensor parallelism: every rank holds the same loss and the gradient of its own shard; autograd through an all-reduce would give
each rank that gradient tp times over.

Top-k: the teacher's k largest over the whole vocabulary stay as they are, all others together are one more outcome. So the
student still learns how much mass belongs outside; a distribution cut to k and renormalised says nothing about that. Inside the
rest, the gradient falls on each z in proportion to its share of the rest's mass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from nemo_plugins.distillation import kd_triton
from nemo_plugins.distillation.in_chunks import WithGradient, chunked, gradient_buffer, log_probabilities, precise
from nemo_plugins.training.vocabulary_parallel import Group, all_reduce, ranks

LOWEST = float("-inf")


def _forward_kl(log_t: Tensor, log_s: Tensor, _skew: float) -> tuple[Tensor, Tensor]:
    t = log_t.exp()
    return (log_t - log_s).mul_(t).masked_fill_(t == 0, 0), t.neg_()


def _reverse_kl(log_t: Tensor, log_s: Tensor, _skew: float) -> tuple[Tensor, Tensor]:
    s = log_s.exp()
    terms = (log_s - log_t).mul_(s).masked_fill_(s == 0, 0)
    return terms, terms.clone()


def _jsd(log_t: Tensor, log_s: Tensor, _skew: float) -> tuple[Tensor, Tensor]:
    t, s = log_t.exp(), log_s.exp()
    log_m = torch.logaddexp(log_t, log_s).sub_(math.log(2))
    w = (log_s - log_m).mul_(s).masked_fill_(s == 0, 0).div_(2)
    return (log_t - log_m).mul_(t).masked_fill_(t == 0, 0).div_(2).add_(w), w


def _skewed_kl(log_t: Tensor, log_s: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    t = log_t.exp()
    share, other = (math.log(x) if x else LOWEST for x in (skew, 1 - skew))
    ratio = log_t - torch.logaddexp(log_t + share, log_s + other)
    w = (ratio + log_s).add_(other).exp_().masked_fill_(t == 0, 0).neg_()
    return ratio.mul_(t).masked_fill_(t == 0, 0), w


class Loss(NamedTuple):
    """A kind of loss.

    Attributes:
        terms: from log t, log s and the skew to what sums to loss / T² and to Σw over the last dimension (the table above): two
            new tensors of the arguments' shape. 0 · log 0 = 0: what has probability 0 is set so, since floating point makes
            nan of 0 · ∞. A true nan stays one.
        kernel: its number in `kd_triton`; None: torch computes it on GPUs, too.
    """

    terms: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
    kernel: int | None = None


LOSSES = {
    "forward_kl": Loss(_forward_kl, kd_triton.FORWARD_KL),
    "reverse_kl": Loss(_reverse_kl, kd_triton.REVERSE_KL),
    "jsd": Loss(_jsd, kd_triton.JSD),
    "skewed_kl": Loss(_skewed_kl, kd_triton.SKEWED_KL),
}


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    kind: str = "forward_kl",
    temperature: float = 1.0,
    top_k: int | None = None,
    skew: float = 0.1,
    group: Group = None,
) -> Tensor:
    """Distillation loss of each token, `[s, b]` in fp32 (float64 for float64 logits), times T² (arXiv 1503.02531).

    Args:
        student_logits, teacher_logits: `[s, b, v/tp]`, any floating dtype and strides. −inf is probability 0, in both where the
            vocabulary is padded. Where only one has it the loss is what the mathematics says, infinity included.
        kind: one of `LOSSES`.
        temperature: both logits are divided by it, before anything else.
        top_k: how many of the teacher's largest to keep, ties to the lower index. None: all.
        skew: the teacher's share of the mixture, for `skewed_kl` alone.
        group: the tensor-parallel group over which the vocabulary is split into equal shards, in rank order. None: not split.
    Returns: the loss, the same on every rank of the group. The teacher gets no gradient. Twice backward needs `retain_graph`.

    Raises ValueError for an unknown kind, T ≤ 0, a skew outside [0, 1], top_k < 1 or > v, and shapes that differ.
    """
    _check(kind, temperature, skew)
    if student_logits.dim() != 3 or student_logits.shape != teacher_logits.shape:
        shapes = f"{list(student_logits.shape)} and {list(teacher_logits.shape)}"
        raise ValueError(f"student_logits and teacher_logits must both be [s, b, v] and of one shape, got {shapes}")
    if top_k is not None:
        record = topk_record(teacher_logits, top_k, temperature=temperature, group=group)
        return kd_loss_cached(student_logits, *record, kind=kind, temperature=temperature, skew=skew, group=group)

    student, teacher = student_logits.detach(), teacher_logits.detach()
    group = group if ranks(group) > 1 else None
    dtype = precise(student, teacher)
    gradient, kernel = gradient_buffer(student_logits), LOSSES[kind].kernel
    if kernel is not None and dtype is torch.float32 and kd_triton.available(student, kernel, skew):
        loss = kd_triton.loss(
            student, teacher, kernel=kernel, temperature=temperature, skew=skew, gradient=gradient, group=group
        )
        return loss if gradient is None else WithGradient.apply(student_logits, loss, gradient)
    loss = student.new_empty(student.shape[:2], dtype=dtype)
    for at in chunked(student, dtype):
        log_s, log_t = log_probabilities([student[at], teacher[at]], temperature, dtype, group)
        terms, w = LOSSES[kind].terms(log_t, log_s, skew)
        sums = all_reduce(torch.stack([terms.sum(-1), w.sum(-1)], -1), distributed.ReduceOp.SUM, group)
        loss[at] = sums[..., 0] * temperature**2
        if gradient is not None:
            gradient[at] = w.addcmul_(log_s.exp_(), sums[..., 1:], value=-1).mul_(temperature)
    return loss if gradient is None else WithGradient.apply(student_logits, loss, gradient)


def topk_record(
    teacher_logits: Tensor, k: int, *, temperature: float = 1.0, group: Group = None
) -> tuple[Tensor, Tensor, Tensor]:
    """What top-k distillation needs of the teacher, to be kept for `kd_loss_cached`: 8 k + 4 bytes a token.

    Args:
        teacher_logits, temperature, group: as for `kd_loss`.
        k: how many to keep.
    Returns: on every rank, indices over the whole vocabulary, `[s, b, k]` in int32, largest probability first, ties by index;
        their log-probabilities at that temperature, `[s, b, k]` in fp32 (float64 for float64 logits); the log of all others'
        mass, `[s, b]`, −inf where none is left.

    Raises ValueError for T ≤ 0, k < 1 or > v, and logits that are not `[s, b, v]`.
    """
    _check("forward_kl", temperature, 0.0)
    if teacher_logits.dim() != 3:
        raise ValueError(f"teacher_logits must be [s, b, v], got {list(teacher_logits.shape)}")
    vocabulary = teacher_logits.shape[-1] * ranks(group)
    if not 1 <= k <= vocabulary:
        raise ValueError(f"top_k must be from 1 to the vocabulary's {vocabulary}, got {k}")
    group = group if ranks(group) > 1 else None
    teacher, dtype = teacher_logits.detach(), precise(teacher_logits)
    tokens = teacher.shape[:2]
    indices = teacher.new_empty((*tokens, k), dtype=torch.int32)
    logprobs, tail = teacher.new_empty((*tokens, k), dtype=dtype), teacher.new_empty(tokens, dtype=dtype)
    for at in chunked(teacher, dtype):
        indices[at] = _largest(teacher[at], k, group)
        outcomes, *_ = _outcomes(teacher[at], indices[at], temperature, dtype, group)
        logprobs[at], tail[at] = outcomes[..., :-1], outcomes[..., -1]
    return indices, logprobs, tail


def kd_loss_cached(
    student_logits: Tensor,
    indices: Tensor,
    logprobs: Tensor,
    tail: Tensor,
    *,
    kind: str = "forward_kl",
    temperature: float = 1.0,
    skew: float = 0.1,
    group: Group = None,
) -> Tensor:
    """`kd_loss` with `top_k`, from what `topk_record` kept of the teacher: the same code, so the same number.

    Args:
        student_logits: `[s, b, v/tp]`.
        indices, logprobs: `[s, b, k]`, every index below v.
        tail: `[s, b]`.
        temperature: the one at which the record was made; here it divides the student's logits and gives T².
        kind, skew, group: as for `kd_loss`.
    Returns: as `kd_loss`.

    Raises ValueError as `kd_loss` does, and for a record whose shapes do not fit the student's.
    """
    _check(kind, temperature, skew)
    tokens, k = student_logits.shape[:2], indices.shape[-1]
    if student_logits.dim() != 3 or not (tail.shape == tokens and indices.shape == logprobs.shape == (*tokens, k)):
        wanted = "student_logits [s, b, v] with indices and logprobs [s, b, k] and tail [s, b]"
        got = ", ".join(str(list(x.shape)) for x in (student_logits, indices, logprobs, tail))
        raise ValueError(f"expected {wanted}, got {got}: was the record made of the same batch?")

    student, dtype = student_logits.detach(), precise(student_logits, logprobs)
    group = group if ranks(group) > 1 else None
    gradient = gradient_buffer(student_logits)
    loss = student.new_empty(tokens, dtype=dtype)
    for at in chunked(student, dtype):
        log_s, columns, rest, rest_sum = _outcomes(student[at], indices[at], temperature, dtype, group)
        log_t = torch.cat([logprobs[at], tail[at].unsqueeze(-1)], -1).to(dtype)
        terms, w = LOSSES[kind].terms(log_t, log_s, skew)
        loss[at] = terms.sum(-1) * temperature**2
        if gradient is not None:
            by_outcome = (w - log_s.exp() * w.sum(-1, keepdim=True)) * temperature
            by_logit = rest.mul_(by_outcome[..., -1:] / rest_sum.clamp_min(1)).scatter_(-1, columns, by_outcome[..., :-1])
            gradient[at] = by_logit[..., :-1]
    return loss if gradient is None else WithGradient.apply(student_logits, loss, gradient)


def masked_sum(loss: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """What a micro-batch adds to a step's mean over the tokens that count: the weighted sum of their losses, and their number.

    The step divides the sums of all its micro-batches and processes by all their tokens (Megatron's
    `calculate_per_token_loss`), so that no token's pull depends on which micro-batch it is in. A weight is no part of the
    number, as in `sft_loss`: a dialogue of weight 0.5 pulls half as much as it would with 1 (WICEL, arXiv 2410.18565).

    Args:
        loss: of each token, `[b, s]` (or `[s, b]`, with the mask alike).
        mask: the token's weight where it counts, else 0, the same shape.
    Returns: Σ mask · loss, a scalar in fp32 (float64 of float64), 0 where nothing counts; how many places are above 0.

    Raises ValueError for shapes that differ.
    """
    if loss.shape != mask.shape:
        raise ValueError(f"loss and mask must be of one shape, got {list(loss.shape)} and {list(mask.shape)}")
    counted = mask > 0
    return (loss.masked_fill(~counted, 0) * mask.float()).sum(), counted.sum()


def _outcomes(
    logits: Tensor, indices: Tensor, temperature: float, dtype: torch.dtype, group: Group
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The k + 1 outcomes of a top-k distribution, from `[…, v/tp]` and `[…, k]`, with two collectives.

    Returns: log-probabilities `[…, k + 1]`, the rest last; where the k lie in this shard, `[…, k]`, v/tp for another shard's;
        exp of what is left in this shard, shifted, `[…, v/tp + 1]`; its sum over all shards, `[…, 1]`, 0 or at least 1.
    The extra column takes the writes that are meant for other shards; it holds −inf, so reading it finds nothing.
    """
    v = logits.shape[-1]
    columns = indices.long() - (0 if group is None else group.rank() * v)
    columns = columns.where((columns >= 0) & (columns < v), v)
    rest = logits.new_full((*logits.shape[:-1], v + 1), LOWEST, dtype=dtype)
    rest[..., :v] = logits
    rest.div_(temperature)
    kept = rest.gather(-1, columns)
    rest.scatter_(-1, columns, LOWEST)
    tops = all_reduce(torch.cat([kept, rest.amax(-1, keepdim=True)], -1), distributed.ReduceOp.MAX, group)
    rest_top = tops[..., -1:]
    rest.sub_(rest_top.masked_fill(rest_top == LOWEST, 0)).exp_()
    rest_sum = all_reduce(rest.sum(-1, keepdim=True), distributed.ReduceOp.SUM, group)
    shifted = tops - tops.amax(-1, keepdim=True)
    shifted[..., -1:] += rest_sum.log()
    return shifted.log_softmax(-1), columns, rest, rest_sum


def _largest(logits: Tensor, k: int, group: Group) -> Tensor:
    """Indices over the whole vocabulary, `[…, k]`, of the k largest of `[…, v/tp]`, ties to the lower index; one collective.

    bf16 logits tie often, and torch's top-k takes any of the tied: then a sharded loss would differ from an unsharded one. So
    the k largest are taken of integers that hold the value, in 32 bits that sort as the float does, and the index below it.
    """
    v = logits.shape[-1]
    value = (logits.float() + 0.0).view(torch.int32)  # + 0.0: −0.0 is no smaller than 0.0
    value ^= (value >> 31) & 0x7FFFFFFF
    first = 0 if group is None else group.rank() * v
    index = torch.arange(first, first + v, device=logits.device)
    keys = value.long().mul_(2**32).add_(2**32 - 1 - index).topk(min(k, v), -1).values
    if group is not None:
        shards = [torch.empty_like(keys) for _ in range(group.size())]
        distributed.all_gather(shards, keys.contiguous(), group)
        keys = torch.cat(shards, -1).topk(k, -1).values
    return (2**32 - 1 - (keys & 0xFFFFFFFF)).int()


def _check(kind: str, temperature: float, skew: float) -> None:
    if kind not in LOSSES:
        raise ValueError(f"kind must be one of {', '.join(LOSSES)}, got {kind!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if not 0 <= skew <= 1:
        raise ValueError(f"skew must be from 0 to 1, got {skew}")
