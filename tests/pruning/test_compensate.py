"""Compensated weights against least squares of another library, and against the update that the paper prints."""

from types import SimpleNamespace

import pytest
import torch

from nemo_plugins.pruning import compensate

TOKENS, F, H = 50, 9, 4
KEPT = torch.tensor([7, 0, 3, 5, 1, 8])  # in the order of some importance
REMOVED = torch.tensor([2, 4, 6])


@pytest.fixture
def ffn():
    """Activations that have something in common, `[tokens, f]`, and a weight `[h, f]`, in fp64."""
    draw = torch.Generator().manual_seed(5)
    mixed = torch.randn(TOKENS, F, generator=draw).double() @ torch.randn(F, F, generator=draw).double()
    return mixed + 0.1, torch.randn(H, F, generator=draw).double()


@pytest.mark.parametrize("ridge", [0.0, 0.01, 3.0])
def test_the_new_weights_are_those_of_lstsq(ffn, ridge):
    activations, weight = ffn
    kept = activations[:, KEPT]
    damping = (ridge * kept.square().sum(0).mean()).sqrt() * torch.eye(len(KEPT)).double()
    want = torch.linalg.lstsq(
        torch.cat([kept, damping]), torch.cat([activations @ weight.T, damping @ weight[:, KEPT].T]), driver="gelsd"
    ).solution.T
    found = compensate.least_squares(weight, activations.T @ activations, KEPT, ridge)
    assert torch.allclose(found, want, rtol=1e-9, atol=1e-11)


def test_without_a_ridge_the_update_is_the_papers(ffn):
    """ZipLM: W − W_R ((H⁻¹)_RR)⁻¹ (H⁻¹)_R:"""
    activations, weight = ffn
    inverse = torch.linalg.inv(activations.T @ activations)
    want = weight - weight[:, REMOVED] @ torch.linalg.inv(inverse[REMOVED][:, REMOVED]) @ inverse[REMOVED]
    assert want[:, REMOVED].abs().max() < 1e-12
    found = compensate.least_squares(weight, activations.T @ activations, KEPT, 0.0)
    assert torch.allclose(found, want[:, KEPT], rtol=1e-9, atol=1e-11)


def test_nothing_changes_where_every_neuron_stays(ffn):
    activations, weight = ffn
    order = torch.randperm(F, generator=torch.Generator().manual_seed(1))
    assert compensate.least_squares(weight, activations.T @ activations, order).equal(weight[:, order])


def test_a_neurons_weight_goes_to_its_twin(ffn):
    activations, weight = ffn
    activations[:, REMOVED] = torch.tensor([1.0, 2.0, -0.5]).double() * activations[:, [7, 0, 0]]
    moments = activations.T @ activations
    found = compensate.least_squares(weight, moments, KEPT, 0.0)
    want = weight[:, KEPT].clone()
    want[:, 0] += weight[:, 2]
    want[:, 1] += 2 * weight[:, 4] - 0.5 * weight[:, 6]
    assert torch.allclose(found, want, rtol=1e-9, atol=1e-11)
    assert torch.allclose(activations[:, KEPT] @ found.T, activations @ weight.T, rtol=1e-9)
    assert abs(compensate.unexplained(weight, moments, KEPT, found)) < 1e-12


def test_what_is_missing_is_that_of_the_outputs(ffn):
    activations, weight = ffn
    moments = activations.T @ activations
    found = compensate.least_squares(weight, moments, KEPT)
    shares = []
    for instead in (weight[:, KEPT], found):
        missing = (activations @ weight.T - activations[:, KEPT] @ instead.T).square().sum()
        shares.append(compensate.unexplained(weight, moments, KEPT, instead))
        assert shares[-1] == pytest.approx((missing / (activations @ weight.T).square().sum()).item())
    assert shares[1] < shares[0]


def test_moments_add_up_over_micro_batches_of_the_layers_that_are_asked_for():
    layers = [
        SimpleNamespace(layer_number=number, mlp=SimpleNamespace(linear_fc2=torch.nn.Linear(F, H))) for number in (1, 2, 3)
    ]
    batches = [torch.randn(5, 2, F, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]  # [s, b, f]

    def forward() -> None:
        for batch in batches:
            for layer in layers:
                layer.mlp.linear_fc2(layer.layer_number * batch)

    dynamic = SimpleNamespace(decoder=SimpleNamespace(layers=layers))
    found = compensate.second_moments(dynamic, [0, 2, 7], forward)
    rows = torch.cat([batch.flatten(0, 1) for batch in batches]).double()
    assert set(found) == {0, 2}
    for number, sums in found.items():
        assert torch.allclose(sums.double(), (number + 1) ** 2 * rows.T @ rows, rtol=1e-5, atol=1e-5)
    before = found[0].clone()
    forward()
    assert found[0].equal(before)  # nothing listens any more
