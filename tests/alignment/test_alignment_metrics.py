"""What alignment is watched by, on numbers worked out by hand."""

import pytest
import torch

from nemo_plugins.alignment.losses import preference_metrics


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
