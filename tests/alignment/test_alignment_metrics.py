"""What alignment is watched by, on numbers worked out by hand."""

import math

import pytest
import torch

from nemo_plugins.alignment.metrics import policy_metrics, preference_metrics


def numbers(found):
    return {name: value.item() for name, value in found.items()}


def test_preference_metrics_by_hand():
    w, loser = torch.tensor([-10.0, -20.0, -30.0]), torch.tensor([-12.0, -20.0, -40.0])
    ref_w, ref_l = torch.tensor([-11.0, -20.0, -28.0]), torch.tensor([-11.0, -20.0, -35.0])
    found = numbers(preference_metrics(w, loser, ref_w, ref_l, beta=0.1))
    assert found == pytest.approx(
        {
            "reward_chosen": 0.1 * (1 + 0 - 2) / 3,
            "reward_rejected": 0.1 * (-1 + 0 - 5) / 3,
            "margin": 0.1 * (2 + 0 + 3) / 3,
            "accuracy": 2 / 3,  # the tie is not right
            "logp_chosen": -20,
            "logp_rejected": -24,
            "chosen_shift": -1 / 3,
            "chosen_fell": 1 / 3,
        }
    )


def test_policy_metrics_by_hand():
    old = torch.zeros(3, 3)
    lp = torch.tensor([[1.5, 0.5, 1.0], [1.5, 0.5, 9.0], [7.0, 7.0, 7.0]]).log()
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 0]])
    advantages, entropies = torch.tensor([1.0, -1.0, 1.0]), torch.full((3, 3), 2.0)
    entropies[2] = float("nan")
    found = numbers(policy_metrics(lp, old, old, advantages, mask, clip_low=0.2, clip_high=0.2, entropies=entropies))
    kl = [1 / r - 1 + math.log(r) for r in (1.5, 0.5, 1.0, 1.5, 0.5)]
    assert found == pytest.approx(
        {
            "clip_fraction": 2 / 5,  # 1.5 where A > 0 and 0.5 where A < 0; the other two still have their gradient
            "clipped_low": 1 / 5,
            "clipped_high": 1 / 5,
            "ratio": 1.0,
            "ratio_max": 1.5,
            "tokens": 5,
            "length": 5 / 3,
            "empty_rows": 1,
            "kl": sum(kl) / 5,
            "entropy": 2.0,
        },
        rel=1e-5,
    )


def test_policy_metrics_of_no_tokens_are_0():
    lp = torch.full((2, 3), float("-inf"))
    found = numbers(policy_metrics(lp, lp, None, torch.ones(2), torch.zeros(2, 3), clip_low=0.2, clip_high=0.2))
    assert found["tokens"] == 0 and found["empty_rows"] == 2 and all(math.isfinite(x) for x in found.values())


def test_a_ratio_beyond_exp_leaves_the_means_finite():
    old = torch.tensor([[-100.0, 0.0]])
    found = policy_metrics(torch.zeros(1, 2), old, old, torch.ones(1), torch.ones(1, 2), clip_low=0.2, clip_high=0.2)
    assert all(math.isfinite(value) for value in numbers(found).values()) and found["clipped_high"] == 0.5
