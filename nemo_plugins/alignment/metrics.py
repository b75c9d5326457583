"""What alignment is watched by: means over this rank's batch, as tensors of one number, detached."""

from __future__ import annotations

import torch
from torch import Tensor

from nemo_plugins.alignment.losses import bounded_log_ratio, kl_estimate


@torch.no_grad()
def preference_metrics(
    logp_w: Tensor, logp_l: Tensor, ref_logp_w: Tensor, ref_logp_l: Tensor, *, beta: float
) -> dict[str, Tensor]:
    """Means over pairs; arguments as for `losses.dpop_loss`, `[b]` each.

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


@torch.no_grad()
def kl_to_reference(logp: Tensor, ref_logp: Tensor, mask: Tensor) -> Tensor:
    """Mean k3 estimate over the counted tokens of `[b, t]`, 0 for none: `losses.kl_estimate`.

    An estimate of KL(πθ‖πref) on what πθ sampled; on given texts, such as preference pairs, a measure of drift, still ≥ 0.
    """
    counted = mask.bool()
    return kl_estimate(logp, ref_logp).double().masked_fill(~counted, 0).sum() / counted.sum().clamp_min(1)


@torch.no_grad()
def policy_metrics(
    logp: Tensor,
    old_logp: Tensor,
    ref_logp: Tensor | None,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    entropies: Tensor | None = None,
) -> dict[str, Tensor]:
    """Means over the counted tokens; arguments as for `losses.grpo_loss`, `entropies` `[b, t]` of `logprobs.token_entropies`.

    Returns: `kl` to the reference (k3) and `entropy`, where given; `clip_fraction`, the share of tokens whose ratio the clip
        holds, so that they have no gradient but the KL term's, of which `clipped_low` and `clipped_high`; `ratio`, `ratio_max`;
        `tokens`, how many counted, for weighting between ranks; `length`, per row, and `empty_rows`. 0 for no tokens.
    """
    counted = mask.bool()
    number = counted.sum().clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return values.double().masked_fill(~counted, 0).sum() / number

    ratio = bounded_log_ratio((logp - old_logp).masked_fill(~counted, 0)).exp()
    sign = advantages.unsqueeze(-1).sign()
    low, high = (ratio < 1 - clip_low) & (sign < 0), (ratio > 1 + clip_high) & (sign > 0)
    means = {
        "clip_fraction": mean(low | high),
        "clipped_low": mean(low),
        "clipped_high": mean(high),
        "ratio": mean(ratio),
        "ratio_max": ratio.masked_fill(~counted, 0).amax() if ratio.numel() else ratio.new_zeros(()),
        "tokens": counted.sum(),
        "length": counted.sum(-1).double().mean(),
        "empty_rows": (~counted.any(-1)).sum(),
    }
    if ref_logp is not None:
        means["kl"] = kl_to_reference(logp, ref_logp, mask)
    if entropies is not None:
        means["entropy"] = mean(entropies)
    return means
