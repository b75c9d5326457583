"""Checkpoints of models with and without Transformer Engine in each other's place. Line numbers are megatron-core 0.15.3's."""

from torch import nn

from nemo_plugins.platforms.adjustments import Adjustments

adjustment = Adjustments()
apply = adjustment.apply


@adjustment("norm_state", because="megatron/core/extensions/transformer_engine.py:205: its norms save a state that others lack")
def norm_state() -> None:
    from megatron.core.extensions.transformer_engine import TENorm

    build = TENorm.__new__

    def build_without_state(cls, *args, **kwargs) -> nn.Module:
        return without_extra_state(build(cls, *args, **kwargs))

    TENorm.__new__ = staticmethod(build_without_state)


def without_extra_state(norm: nn.Module) -> nn.Module:
    """A norm whose `_extra_state` is neither saved nor asked of a checkpoint.

    Transformer Engine keeps FP8 scales there, and a norm has none (transformer_engine/pytorch/ops/op.py); Megatron's own
    linear layers have the key, its norms have not. A teacher that was converted without Transformer Engine would be refused
    with it: "Missing key in checkpoint state_dict: decoder.final_layernorm._extra_state". Megatron-Core does the same for
    ModelOpt's layers (megatron/core/post_training/modelopt/layers.py:78).
    """

    def leave_out(_norm, state: dict, prefix: str, _metadata) -> None:
        state.pop(f"{prefix}_extra_state", None)

    def fill(state: dict, prefix: str, *_) -> None:
        state[f"{prefix}_extra_state"] = None

    if "_extra_state" in norm.state_dict():
        norm._register_state_dict_hook(leave_out)
        norm._register_load_state_dict_pre_hook(fill)
    return norm
