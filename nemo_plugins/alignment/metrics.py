"""What alignment is watched by: means over this rank's batch, as tensors of one number, detached."""

from __future__ import annotations

import torch
from torch import Tensor


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
