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
