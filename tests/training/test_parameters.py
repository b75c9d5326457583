"""Log-probabilities and recordings outside of a step: a data-parallel copy without work does not leave the others waiting."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from nemo_plugins.training.parameters import settled


class Wrapper:
    """Megatron's wrapper of a model under an overlapped gathering, as far as it is asked."""

    def __init__(self):
        self.remove_forward_pre_hook_handles = {"layer": 1}
        self.said = []

    def disable_forward_pre_hook(self):
        self.said.append("gathered")
        self.remove_forward_pre_hook_handles = {}

    def enable_forward_pre_hook(self):
        self.said.append("hooks")
        self.remove_forward_pre_hook_handles = {"layer": 1}


def test_the_hooks_come_back_also_after_an_error():
    wrapper, plain = Wrapper(), SimpleNamespace(module=object())
    with pytest.raises(ValueError), settled([SimpleNamespace(module=wrapper), plain]):
        assert wrapper.said == ["gathered"]
        raise ValueError
    assert wrapper.said == ["gathered", "hooks"]


@pytest.fixture
def fakes(monkeypatch):
    """The libraries of a file, of which nothing is used here: they take half a minute."""

    def place(name: str, **contents) -> None:
        module = ModuleType(name)
        module.__dict__.update(contents, __path__=[])
        monkeypatch.setitem(sys.modules, name, module)

    where = SimpleNamespace(get_data_parallel_world_size=lambda: 2, get_data_parallel_rank=lambda: 1)
    for name in ("lightning", "lightning.pytorch", "megatron", "nemo", "nemo.utils"):
        place(name)
    place("lightning.pytorch.callbacks", Callback=object)
    place("megatron.core", parallel_state=where)
    place("megatron.core.pipeline_parallel", get_forward_backward_func=None)
    place("nemo.utils.model_utils", unwrap_model=lambda model: model)
    place("nemo_plugins.alignment.objective", Batch=dict, data_step=None, forward_step=None)
    name = "nemo_plugins.alignment.reference"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name)
    del sys.modules[name]
    monkeypatch.delattr(sys.modules["nemo_plugins.alignment"], "reference")


@pytest.mark.parametrize("pairs", [1, 2])
def test_the_reference_is_measured_with_all_parameters_in_place(fakes, monkeypatch, tmp_path, pairs):
    """Of two copies this is the second: of one micro-batch it has none."""
    wrapper, seen = Wrapper(), []
    lengths = np.full(pairs, 3)
    given = SimpleNamespace(lengths=lengths, reference=None)
    reference = fakes.ReferenceLogprobs(tmp_path, {}, 1, "test")

    def logprobs(models, pairs, indices):
        seen.append(list(wrapper.said))
        return [torch.zeros(2, 3)]

    monkeypatch.setattr(reference, "_logprobs", logprobs)
    monkeypatch.setattr(reference, "_write", lambda found, *_: seen.append(len(found)))
    reference._measure([SimpleNamespace(module=wrapper)], given, tmp_path / "file", "data")
    assert seen == [["gathered"]] * (pairs - 1) + [pairs - 1]
    assert wrapper.said == ["gathered", "hooks"]
