"""What alignment minimises: SFT's cross-entropy, preference losses, GRPO. Pure torch on log-probabilities, no NeMo.

Whatever the vocabulary is split over, log-probabilities are whole here. What a mask leaves out reaches neither a value nor a
gradient, be it −inf or nan.
"""

from __future__ import annotations

from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from nemo_plugins.configs.alignment import GroupLoss, Preference

ROUNDING = 1e-4  # nats: fp32 sums of some hundred log-probabilities by other blocks differ by less
STEADY = 1e-6  # added to a group's standard deviation
MAX_LOG_RATIO = 20.0  # e^20 = 4.9e8; above 88 exp() overflows in fp32


def summed(logp: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each response, `[b]`, from `[b, s]` of its tokens; what the mask leaves out may be −inf or nan."""
    return logp.masked_fill(~mask.bool(), 0).sum(-1)


def sft_loss(logp: Tensor, mask: Tensor, weights: Tensor | None = None, *, tokens: Tensor | float | None = None) -> Tensor:
    """Cross-entropy of the masked tokens with a weight for each sample: WICEL (arXiv 2410.18565), l = −w · log p.

    The sum is divided by the number of tokens, not by that of weights: a sample of weight 0.5 pulls half as much as it would
    with weight 1, whatever else is in the batch, and weights of 1 are the usual mean over tokens.

    Args:
        logp: log-probability of each label, `[b, s]` (or `[s, b]`, with the others alike).
        mask: which labels count, the same shape.
        weights: `[b, s]`, or `[b]` with `logp` `[b, s]`: each at least 0. None: 1 each.
        tokens: what to divide by. None: this batch's tokens, at least 1. Give the whole step's when a step has several
            micro-batches or ranks, or a token's pull depends on which micro-batch it is in.
    Returns: a scalar, nats; 0 where nothing counts.

    Raises ValueError for shapes that do not fit.
    """
    _same_shape(logp=logp, mask=mask)
    counted = mask.bool()
    loss = -logp.masked_fill(~counted, 0)
    if weights is not None:
        if weights.shape not in (logp.shape, logp.shape[:1]):
            raise ValueError(f"weights must be {list(logp.shape)} or {list(logp.shape[:1])}, got {list(weights.shape)}")
        loss = loss * (weights if weights.dim() == logp.dim() else weights.unsqueeze(-1))
    return loss.sum() / (counted.sum().clamp_min(1) if tokens is None else tokens)


def dpop_loss(logp_w: Tensor, logp_l: Tensor, ref_logp_w: Tensor, ref_logp_l: Tensor, *, beta: float, lam: float) -> Tensor:
    """DPO-Positive loss of a batch of preference pairs (arXiv 2402.13228), with λ outside β as the Bielik reports have it:

        −log σ(β [Δw − Δl] − λ · max(0, log πref(yw|x) − log πθ(yw|x))),  Δ = log πθ − log πref

    The paper has λ inside: its λ is ours divided by β. λ = 0 is DPO (arXiv 2305.18290). Where Δw is 0 up to rounding, as all
    are when training starts, there is no penalty: which pairs have its gradient would go by the layout.

    Args:
        logp_w, logp_l: summed log-probability of the chosen / rejected response under the policy, `[b]`.
        ref_logp_w, ref_logp_l: the same under the frozen reference, `[b]`.
    Returns: loss of each pair, `[b]`.

    Raises ValueError for shapes that differ, β ≤ 0 and λ < 0.
    """
    _same_shape(logp_w=logp_w, logp_l=logp_l, ref_logp_w=ref_logp_w, ref_logp_l=ref_logp_l)
    if not beta > 0 or not lam >= 0:
        raise ValueError(f"expected beta above 0 and lam from 0 up, got beta={beta}, lam={lam}")
    delta_w, delta_l = logp_w - ref_logp_w, logp_l - ref_logp_l
    penalty = torch.where(delta_w < -ROUNDING, -delta_w, 0.0)
    return -F.logsigmoid(beta * (delta_w - delta_l) - lam * penalty)


def preference_loss(
    kind: str,
    logp_w: Tensor,
    logp_l: Tensor,
    ref_logp_w: Tensor | None,
    ref_logp_l: Tensor | None,
    *,
    beta: float,
    lam: float = 0.0,
    gamma: float = 0.0,
    tokens_w: Tensor | None = None,
    tokens_l: Tensor | None = None,
) -> Tensor:
    """The loss of each pair, `[b]`, by kind.

    dpop     `dpop_loss`
    dpo      `dpop_loss` with λ = 0
    ipo      (Δw/|yw| − Δl/|yl| − 1/(2β))², arXiv 2310.12036, by token as its authors ran it and TRL has it
    simpo    −log σ(β [log πθ(yw)/|yw| − log πθ(yl)/|yl|] − γ), arXiv 2405.14734: no reference

    Args:
        logp_w, logp_l, ref_logp_w, ref_logp_l: `[b]`, as for `dpop_loss`; `simpo` takes no notice of the reference's.
        lam: λ of `dpop`. gamma: γ of `simpo`.
        tokens_w, tokens_l: tokens of each response, `[b]`, for `ipo` and `simpo`; none counts as 1.

    Raises ValueError as `dpop_loss` does, for an unknown kind and for lengths that are missing.
    """
    _check_kind(kind, Preference)
    if kind in ("dpop", "dpo"):
        return dpop_loss(logp_w, logp_l, ref_logp_w, ref_logp_l, beta=beta, lam=lam if kind == "dpop" else 0.0)
    if tokens_w is None or tokens_l is None:
        raise ValueError(f"{kind} divides by the responses' lengths: give tokens_w and tokens_l")
    _same_shape(
        logp_w=logp_w, logp_l=logp_l, ref_logp_w=ref_logp_w, ref_logp_l=ref_logp_l, tokens_w=tokens_w, tokens_l=tokens_l
    )
    if not beta > 0:
        raise ValueError(f"expected beta above 0, got {beta}")
    w, loser = tokens_w.clamp_min(1), tokens_l.clamp_min(1)
    if kind == "ipo":
        return ((logp_w - ref_logp_w) / w - (logp_l - ref_logp_l) / loser - 1 / (2 * beta)) ** 2
    return F.softplus(gamma - beta * (logp_w / w - logp_l / loser))


def group_advantages(rewards: Tensor, group_size: int, *, kind: str = "grpo") -> Tensor:
    """How much better each completion is than its group: rewards less the group's mean.

    `grpo` (arXiv 2402.03300) divides by the group's unbiased standard deviation + 1e-6, and so do `dapo`, `gspo` and `cispo`.
    `dr_grpo` (arXiv 2503.20783) does not, since that gives questions that are nearly always or nearly never solved more weight.
    A group whose rewards are all equal gets 0 to the bit: no rounding of its mean may be blown up by a division by 1e-6.

    Args:
        rewards: of any shape; in row-major order each `group_size` in a row are completions of one prompt.
    Returns: the same shape, fp32 (float64 for float64).

    Raises ValueError for an unknown kind, groups of fewer than 2, and rewards that do not fill whole groups.
    """
    _check_kind(kind, GroupLoss)
    groups = _groups(rewards, group_size)
    centred = groups - groups.mean(-1, keepdim=True)
    if kind != "dr_grpo":
        centred = centred / (groups.std(-1, keepdim=True) + STEADY)
    return centred.masked_fill(~_varies(groups), 0).reshape(rewards.shape)


def groups_with_signal(rewards: Tensor, group_size: int) -> Tensor:
    """Which groups have rewards that differ, bool `[groups]`: from the others nothing can be learnt but the KL term.

    Raises ValueError as `group_advantages` does.
    """
    return _varies(_groups(rewards, group_size)).squeeze(-1)


def bounded_log_ratio(log_ratio: Tensor, largest: float = MAX_LOG_RATIO) -> Tensor:
    """`log_ratio`, at most `largest`, so that its exp() is finite. Beyond the bound the gradient stays that at the bound: a
    token that has gone too far is still pulled back, only no more strongly."""
    beyond = (log_ratio - log_ratio.detach()).nan_to_num(0.0)  # 0, with the gradient of what is clamped; ∞ − ∞ is no number
    return log_ratio.detach().clamp(max=largest) + beyond


def kl_estimate(logp: Tensor, ref_logp: Tensor, *, max_log_ratio: float = MAX_LOG_RATIO) -> Tensor:
    """KL(πθ‖πref) token by token, from tokens that πθ sampled: exp(d) − d − 1 with d = log πref − log πθ.

    Never negative, unbiased, and of low variance: "k3" of http://joschu.net/blog/kl-approx.html. d is at most
    `max_log_ratio` (`bounded_log_ratio`): a token that the policy makes all but impossible gives a large finite number.
    """
    d = bounded_log_ratio(ref_logp - logp, max_log_ratio)
    return torch.expm1(d) - d


def importance_ratio(
    logp: Tensor, old_logp: Tensor, mask: Tensor, *, kind: str = "grpo", max_log_ratio: float = MAX_LOG_RATIO
) -> Tensor:
    """How much likelier each token is than when it was sampled, `[b, t]`: exp(logp − old_logp), 1 where the mask leaves it out.

    Of `gspo` each token has that of its response: exp(mean over the response's tokens of logp − old_logp).
    """
    counted = mask.bool()
    log_ratio = (logp - old_logp.detach()).masked_fill(~counted, 0)
    if kind == "gspo":
        mean = log_ratio.sum(-1, keepdim=True) / counted.sum(-1, keepdim=True).clamp_min(1)
        log_ratio = mean.expand_as(logp).masked_fill(~counted, 0)
    return bounded_log_ratio(log_ratio, max_log_ratio).exp()


def clipped(ratio: Tensor, advantages: Tensor, *, kind: str = "grpo", clip_low: float, clip_high: float) -> Tensor:
    """Where the clip takes effect, bool `[b, t]`: tokens without a gradient, of `cispo` those whose weight is at a bound.

    Args:
        ratio: of `importance_ratio`, `[b, t]`. advantages: `[b]`.
    """
    low, high, sign = ratio < 1 - clip_low, ratio > 1 + clip_high, advantages.sign().unsqueeze(-1)
    return (low | high) & (sign != 0) if kind == "cispo" else (low & (sign < 0)) | (high & (sign > 0))


def grpo_loss(
    logp: Tensor,
    old_logp: Tensor,
    ref_logp: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    kind: str = "grpo",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_coef: float = 0.001,
    max_tokens: int | None = None,
    tokens: Tensor | float | None = None,
    correction: Tensor | None = None,
    max_log_ratio: float = MAX_LOG_RATIO,
) -> Tensor:
    """Clipped policy loss with a KL term. Of each token, with r of `importance_ratio` and clips apart (arXiv 2503.14476):

        −c · min(r A, clip(r, 1 − clip_low, 1 + clip_high) A) + kl_coef · k3

    grpo        arXiv 2402.03300: the mean over each response's tokens, then over responses
    dr_grpo     arXiv 2503.20783: the sum over all tokens / (b · max_tokens)
    dapo        arXiv 2503.14476: the mean over all tokens, whichever response they are of
    gspo        arXiv 2507.18071: grpo's mean; one r, and so one clip, for a response as a whole
    cispo       arXiv 2506.13585: dapo's mean of −c · clip(r, …) A · logp + kl_coef · k3, no gradient through the clipped r

    Args:
        logp: of the policy, `[b, t]`: the only one that gets a gradient.
        old_logp: of the policy that sampled, `[b, t]`. ref_logp: of the reference, `[b, t]`; None where kl_coef is 0.
        advantages: `[b]`. mask: which tokens count, `[b, t]`; a row without any counts as 0, and as one of the b.
        max_tokens: of dr_grpo, a constant of the run; None: t.
        tokens: of dapo and cispo, what to divide by. None: this batch's tokens, at least 1. A step of several micro-batches or
            ranks gives its own, as for `sft_loss`.
        correction: c, `[b, t]`: bounded importance weights where the tokens come from an engine whose log-probabilities
            are not `old_logp`. None: 1.
        max_log_ratio: logp − old_logp and log πref − log π count as at most this (`bounded_log_ratio`), so that nothing
            overflows: a clipped token has gradient 0 however far it is, another one the gradient at the bound.
    Returns: a scalar.

    Raises ValueError for an unknown kind, shapes that do not fit, negative clips or kl_coef, clip_low > 1, max_tokens < 1,
    max_log_ratio outside 0 to 80.
    """
    _check_kind(kind, GroupLoss)
    if kl_coef and ref_logp is None:
        raise ValueError(f"kl_coef={kl_coef} needs ref_logp")
    others = {"ref_logp": ref_logp, "correction": correction}
    _same_shape(logp=logp, old_logp=old_logp, mask=mask, **{name: x for name, x in others.items() if x is not None})
    if logp.dim() != 2 or advantages.shape != logp.shape[:1]:
        raise ValueError(f"expected logp [b, t] and advantages [b], got {list(logp.shape)} and {list(advantages.shape)}")
    if not (0 <= clip_low <= 1 and clip_high >= 0 and kl_coef >= 0):
        wanted = "expected 0 ≤ clip_low ≤ 1, clip_high ≥ 0, kl_coef ≥ 0"
        raise ValueError(f"{wanted}, got clip_low={clip_low}, clip_high={clip_high}, kl_coef={kl_coef}")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens must be 1 or more, got {max_tokens}")
    if not 0 < max_log_ratio <= 80:
        raise ValueError(f"max_log_ratio must be above 0 and at most 80, got {max_log_ratio}")
    b, t = logp.shape
    counted = mask.bool()
    logp = logp.masked_fill(~counted, 0)
    ratio = importance_ratio(logp, old_logp, counted, kind=kind, max_log_ratio=max_log_ratio)
    gain, bounded = advantages.detach().unsqueeze(-1), ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -bounded.detach() * gain * logp if kind == "cispo" else -torch.min(ratio * gain, bounded * gain)
    if correction is not None:
        loss = loss * correction.detach()
    if kl_coef and ref_logp is not None:
        reference = ref_logp.detach().masked_fill(~counted, 0)
        loss = loss + kl_coef * kl_estimate(logp, reference, max_log_ratio=max_log_ratio)
    loss = loss.masked_fill(~counted, 0)
    if kind == "dr_grpo":
        return loss.sum() / max(1, b * (max_tokens or t))
    if kind in ("dapo", "cispo"):
        return loss.sum() / (counted.sum().clamp_min(1) if tokens is None else tokens)
    return (loss.sum(-1) / counted.sum(-1).clamp_min(1)).sum() / max(1, b)


def _groups(rewards: Tensor, group_size: int) -> Tensor:
    if group_size < 2:
        raise ValueError(f"group_size must be 2 or more, since a completion is compared with its group; got {group_size}")
    if rewards.numel() % group_size:
        raise ValueError(f"{rewards.numel()} rewards are no whole groups of {group_size}")
    values = rewards.detach()
    return (values if values.dtype is torch.float64 else values.float()).reshape(-1, group_size)


def _varies(groups: Tensor) -> Tensor:
    return (groups != groups[:, :1]).any(-1, keepdim=True)


def _check_kind(kind: str, kinds: type[StrEnum]) -> None:
    if kind not in list(kinds):
        raise ValueError(f"kind must be one of {', '.join(kinds)}, got {kind!r}")


def _same_shape(**tensors: Tensor) -> None:
    if len({x.shape for x in tensors.values()}) > 1:
        got = ", ".join(f"{name} {list(x.shape)}" for name, x in tensors.items())
        raise ValueError(f"expected one shape for all, got {got}")


@torch.no_grad()
def preference_metrics(
    logp_w: Tensor, logp_l: Tensor, ref_logp_w: Tensor, ref_logp_l: Tensor, *, beta: float
) -> dict[str, Tensor]:
    """Means over pairs; arguments as for `dpop_loss`, `[b]` each.

    Returns: `reward_chosen`, `reward_rejected` (β Δ, Δ = log πθ − log πref), their difference `margin`; `accuracy`, the share
        of pairs whose margin is above 0 (an untrained policy has 0 everywhere, which is not right); `logp_chosen`,
        `logp_rejected`; `chosen_shift`, Δ of the chosen, which DPO lets fall below 0 and DPO-P does not, and `chosen_fell`,
        the share of pairs where it did. nan for no pairs.
    """
    delta_w, delta_l = (logp_w - ref_logp_w).double(), (logp_l - ref_logp_l).double()
    return {
        "reward_chosen": beta * delta_w.mean(),
        "reward_rejected": beta * delta_l.mean(),
        "margin": beta * (delta_w - delta_l).mean(),
        "accuracy": (delta_w > delta_l).double().mean(),
        "logp_chosen": logp_w.double().mean(),
        "logp_rejected": logp_l.double().mean(),
        "chosen_shift": delta_w.mean(),
        "chosen_fell": (delta_w < 0).double().mean(),
    }
