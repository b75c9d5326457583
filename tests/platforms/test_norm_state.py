"""A norm of Transformer Engine's takes a checkpoint that was written without it, and one that was written with it."""

import sys
from types import ModuleType

import pytest
import torch

from nemo_plugins.platforms import with_transformer_engine

KEY = "final_layernorm._extra_state"


class Norm(torch.nn.RMSNorm):
    """As Transformer Engine's: an empty tensor, and nothing to be done with what is empty."""

    def get_extra_state(self):
        return torch.empty(0, dtype=torch.uint8)

    def set_extra_state(self, state):
        assert state is None or state.numel() == 0


class TENorm:
    def __new__(cls, config, hidden_size, eps=1e-5):
        return Norm(hidden_size, eps=eps)


@pytest.fixture
def model(monkeypatch):
    """Two models, the first without and the second with the adjustment."""
    module = ModuleType("megatron.core.extensions.transformer_engine")
    module.TENorm = TENorm
    for name in ("megatron", "megatron.core", "megatron.core.extensions"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(TENorm, "__new__", TENorm.__new__)
    before = torch.nn.ModuleDict({"final_layernorm": module.TENorm(None, 4)})
    assert with_transformer_engine.apply() == ("norm_state",)
    return before, torch.nn.ModuleDict({"final_layernorm": module.TENorm(None, hidden_size=4, eps=1e-6)})


def test_its_state_is_not_saved_and_not_asked_for(model):
    before, after = model
    assert KEY in before.state_dict() and KEY not in after.state_dict()
    assert "_extra_state" not in after["final_layernorm"].state_dict(prefix="", keep_vars=True)  # as Megatron-Core asks
    assert after["final_layernorm"].eps == 1e-6
    weight = torch.rand(4)
    for given in ({}, {KEY: torch.empty(0, dtype=torch.uint8)}, {KEY: None}):
        after.load_state_dict({"final_layernorm.weight": weight, **given}, strict=True)
        assert torch.equal(after["final_layernorm"].weight, weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        before.load_state_dict({"final_layernorm.weight": weight}, strict=True)
