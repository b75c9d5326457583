"""Losses without layers: measured once, kept after each, and the model whole again afterwards."""

from types import SimpleNamespace

import pytest
import torch
from rank_processes import run_ranks
from torch import distributed

from nemo_plugins.pruning import layer_removal
from nemo_plugins.pruning.layer_removal import Removals

pytestmark = pytest.mark.long  # its tests start processes or draw pictures


class Layer(torch.nn.Module):
    """A layer as Megatron's: hidden states and context in, the same out."""

    def __init__(self, number: int):
        super().__init__()
        self.layer_number = number

    def forward(self, hidden_states, attention_mask=None, context=None):
        return hidden_states * (1 + self.layer_number), context


@pytest.fixture
def model():
    return SimpleNamespace(decoder=SimpleNamespace(layers=[Layer(number) for number in (1, 2, 3)]))


def product(model) -> float:
    hidden = torch.ones(())
    for layer in model.decoder.layers:
        hidden, _ = layer(hidden_states=hidden, attention_mask=None)
    return hidden.item()


def test_a_layer_that_is_out_hands_on_its_input(model):
    assert product(model) == 24
    with layer_removal.without(model, [0, 2]):
        assert product(model) == 3
    assert product(model) == 24
    with pytest.raises(RuntimeError), layer_removal.without(model, [1]):
        raise RuntimeError
    assert product(model) == 24


def test_what_is_measured_is_not_measured_again_and_survives_a_stop(model, tmp_path):
    calls = []

    def loss() -> float:
        calls.append(product(model))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return calls[-1]

    runs, path = layer_removal.runs_of(1, 3), tmp_path / "removals.json"
    with pytest.raises(KeyboardInterrupt):
        layer_removal.measure(model, loss, runs, path, is_writer=True)
    assert Removals.load(path).losses == {(0, 0): 12}
    made = layer_removal.measure(model, loss, runs, path, is_writer=True)
    assert calls == [24, 12, 8, 8, 6]  # the whole model and the first layer once
    assert made.of_layers() == [12 - 24, 8 - 24, 6 - 24] and made.baseline == 24
    assert Removals.load(path) == made
    assert Removals(1.0, {(0, 0): 2.0, (2, 2): 3.0}).of_layers() is None


def one_rank(rank, ranks, folder):
    """The file as it was when rank 0 read it, and as another job has left it since."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=ranks)
    layers = SimpleNamespace(decoder=SimpleNamespace(layers=[Layer(number) for number in (1, 2, 3)]))

    def loss() -> float:  # as on a pipeline: every rank has to come
        found = torch.tensor(product(layers))
        distributed.all_reduce(found)
        return found.item() / ranks

    made = layer_removal.measure(layers, loss, layer_removal.runs_of(1, 3), folder / f"{rank}.json", is_writer=rank == 0)
    assert made.losses == {(0, 0): 12, (1, 1): 8, (2, 2): 6}
    distributed.destroy_process_group()


def test_all_ranks_measure_what_rank_0_lacks(tmp_path):
    Removals(24, {(0, 0): 12}).save(tmp_path / "0.json")
    Removals(24, {(0, 0): 12, (1, 1): 8}).save(tmp_path / "1.json")
    run_ranks(one_rank, 2, tmp_path)
