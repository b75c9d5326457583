"""The maths of importance against brute force and other libraries."""

import numpy
import pytest
import torch
from scipy.stats import spearmanr

from nemo_plugins.configs.schema import Aggregate
from nemo_plugins.pruning import importance

S, B, F = 7, 5, 6


@pytest.fixture
def activations():
    return torch.randn(S, B, F, generator=torch.Generator().manual_seed(3)) * torch.arange(1, F + 1)


def test_ffn_importance_is_l2_over_samples_of_the_mean_absolute_activation(activations):
    want = [sum((sum(abs(activations[s, b, f].item()) for s in range(S)) / S) ** 2 for b in range(B)) ** 0.5 for f in range(F)]
    assert importance.ffn_importance(activations).tolist() == pytest.approx(want, rel=1e-6)


def test_block_influence_is_one_minus_the_mean_cosine_over_tokens(activations):
    other = activations.flip(0) + 0.3
    one, two = activations.double().numpy().reshape(-1, F), other.double().numpy().reshape(-1, F)
    cosines = (one * two).sum(1) / numpy.linalg.norm(one, axis=1) / numpy.linalg.norm(two, axis=1)
    assert importance.block_influence(activations, other) == pytest.approx(1 - cosines.mean(), abs=1e-6)
    assert importance.block_influence(activations, 3 * activations) == pytest.approx(0, abs=1e-6)
    assert importance.block_influence(activations, -activations) == pytest.approx(2, abs=1e-6)


BRUTE = {
    Aggregate.mean: lambda a, axis: numpy.abs(a).mean(axis),
    Aggregate.l2: lambda a, axis: numpy.sqrt((a**2).sum(axis)),
    Aggregate.variance: lambda a, axis: a.var(axis),
}


@pytest.mark.parametrize("sequence", Aggregate)
@pytest.mark.parametrize("samples", Aggregate)
def test_every_aggregation_of_two_micro_batches_equals_numpys_of_all_samples(activations, sequence, samples):
    parts = [importance.over_sequence(part, sequence).double() for part in activations.split([2, 3], dim=1)]
    moments = importance.Moments(sum(p.sum(0) for p in parts), sum(p.square().sum(0) for p in parts), B)
    want = BRUTE[samples](BRUTE[sequence](activations.double().numpy(), 0), 0)
    assert moments.importance(samples).numpy() == pytest.approx(want, rel=1e-5)


def test_a_head_is_the_l2_of_its_channels():
    channels = torch.tensor([[3.0, 4.0, 0.0, 2.0, 1.0, 0.0]])
    assert importance.head_importance(channels, 3).tolist() == [[5.0, 2.0, 1.0]]


def test_rank_correlation_is_scipys_with_ties():
    one, other = torch.tensor([1.0, 5, 2, 2, 9, 4, 4]), torch.tensor([2.0, 4, 1, 3, 8, 8, 4])
    assert importance.rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert importance.rank_correlation(one, -one) == pytest.approx(-1)
    assert importance.rank_correlation(one, torch.ones(7)) == 0.0
