"""Drawing tokens by given uniform numbers: no generator has a state that a resumed run would have to find again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def uniforms(seed: int, draw: int, sample: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) of completion `sample` of the run's `draw`-th prompt."""
    return np.random.default_rng([seed, 1, draw, sample]).random(count)


def draw(logits: Tensor, numbers: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """One token for each row of `[b, v]`: the first whose cumulative probability exceeds the row's number.

    Args:
        logits: as the sampling temperature has left them.
        numbers: `[b]` in [0, 1), float64; None takes the most likely token.
    Returns: tokens, log-probabilities and entropies (nats), `[b]` each.
    """
    logp = logits.float().log_softmax(-1)
    p = logp.exp()
    if numbers is None:
        tokens = logp.argmax(-1)
    else:
        cumulative = p.double().cumsum(-1)
        tokens = torch.searchsorted(cumulative, (numbers * cumulative[:, -1]).unsqueeze(-1), right=True).squeeze(-1)
        last = logp.shape[-1] - 1 - (p.flip(-1) > 0).int().argmax(-1)  # rounding must not step onto a token of probability 0
        tokens = torch.minimum(tokens, last)
    entropy = -(p * logp.masked_fill(p == 0, 0)).sum(-1)
    return tokens, logp.gather(-1, tokens.unsqueeze(-1)).squeeze(-1), entropy
