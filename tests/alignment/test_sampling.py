"""Tokens drawn by given uniform numbers."""

import numpy as np
import pytest
import torch

from nemo_plugins.alignment.rollouts.sampling import draw, uniforms


def test_tokens_come_as_often_as_their_probability_says():
    logits = torch.tensor([0.3, -1.0, float("-inf"), 2.0, 0.0])
    count = 40_000
    tokens, logp, entropy = draw(logits.expand(count, -1), torch.from_numpy(uniforms(1, 2, 3, count)))
    p = logits.softmax(-1)
    seen = torch.bincount(tokens, minlength=5) / count
    assert seen[2] == 0
    assert torch.allclose(seen, p, atol=5 * float((p * (1 - p) / count).sqrt().max()))
    assert torch.allclose(logp, p.log()[tokens])
    assert float(entropy[0]) == pytest.approx(float(-(p[p > 0] * p[p > 0].log()).sum()), rel=1e-6)


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_ends_of_the_interval_draw_no_token_of_probability_0(number):
    logits = torch.tensor([[float("-inf"), 1.0, 1.0, float("-inf"), float("-inf")]] * 3)
    tokens, logp, _ = draw(logits, torch.full((3,), number, dtype=torch.float64))
    assert set(tokens.tolist()) == {1 if number == 0 else 2} and torch.isfinite(logp).all()


def test_no_numbers_take_the_likeliest():
    logits = torch.randn(64, 100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(logits, None)[0], logits.argmax(-1))


def test_numbers_depend_on_the_completion_and_not_on_who_draws_it():
    assert np.array_equal(uniforms(7, 5, 1, 20)[:10], uniforms(7, 5, 1, 10))
    others = [uniforms(*key, 10) for key in ((7, 5, 0), (7, 4, 1), (8, 5, 1))]
    assert not any(np.array_equal(other, uniforms(7, 5, 1, 10)) for other in others)
