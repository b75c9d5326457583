"""NeMo and ModelOpt without Transformer Engine, on CPU or GPU: Megatron's local layers instead, with the same results.

Nothing here chooses a device. Line numbers are those of NeMo 2.7.3, megatron-core 0.15.3 and ModelOpt 0.37.0.
"""

import copy
from importlib.util import find_spec
from types import SimpleNamespace

import torch

from nemo_plugins.platforms.adjustments import Adjustments

adjustment = Adjustments()
apply = adjustment.apply

# Transformer Engine fuses each norm into the linear layer after it; Megatron's local layers keep the norm as a module.
LOCAL_NAMES = {
    "self_attention.linear_qkv.layer_norm_weight": "input_layernorm.weight",
    "mlp.linear_fc1.layer_norm_weight": "pre_mlp_layernorm.weight",
}


@adjustment("modelopt_layers", because="nemo/collections/llm/modelopt/model_utils.py:74 sets Transformer Engine's layer spec")
def modelopt_layers() -> None:
    from nemo.collections.llm.gpt.model.base import GPTConfig, local_layer_spec
    from nemo.collections.llm.modelopt import model_utils

    def set_local_spec(config: GPTConfig) -> GPTConfig:
        if not isinstance(config, GPTConfig):
            raise ValueError(f"expected a GPT config, got {type(config).__name__}: Mamba layers need Transformer Engine")
        config.transformer_layer_spec = local_layer_spec
        return config

    model_utils._set_gpt_mamba_modelopt_spec = set_local_spec


@adjustment("converted_norms", because="nemo/collections/llm/gpt/model/mistral.py:169 maps only the fused norms' names")
def converted_norms() -> None:
    from nemo.lightning import io

    apply_transforms = io.apply_transforms

    def local(key: str) -> str:
        for fused, name in LOCAL_NAMES.items():
            key = key.replace(fused, name)
        return key

    def apply_local_transforms(source, target, mapping, transforms=(), **kwargs):
        mapping = {local(theirs): local(ours) for theirs, ours in mapping.items()}
        return apply_transforms(source, target, mapping, list(transforms), **kwargs)

    io.apply_transforms = apply_local_transforms


@adjustment("norm_type", because="megatron/core/transformer/torch_norm.py:62 leaves out params_dtype")
def norm_type() -> None:
    from megatron.core.transformer.torch_norm import WrappedTorchNorm

    build = WrappedTorchNorm.__new__

    def build_in_params_dtype(cls, config, *args, **kwargs):
        # As Transformer Engine's norms are; NeMo's converters compare the types (nemo/lightning/io/state.py:223).
        return build(cls, config, *args, **kwargs).to(config.params_dtype)

    WrappedTorchNorm.__new__ = staticmethod(build_in_params_dtype)


@adjustment("sequence_parallel_norm", because="megatron/core/transformer/torch_norm.py:32 refuses sequence parallelism")
def sequence_parallel_norm() -> None:
    from megatron.core.transformer.torch_norm import WrappedTorchNorm

    build = WrappedTorchNorm.__new__

    def build_for_a_part_of_the_sequence(cls, config, *args, **kwargs):
        whole = copy.copy(config)
        whole.sequence_parallel = False
        norm = build(cls, whole, *args, **kwargs)
        for weight in norm.parameters():
            # Each tensor-parallel rank has the gradient of its own tokens: finalize_model_grads.py:346 adds up those of
            # marked weights. A norm computes each token by itself, so nothing else has to change.
            weight.sequence_parallel = config.sequence_parallel
        return norm

    WrappedTorchNorm.__new__ = staticmethod(build_for_a_part_of_the_sequence)


@adjustment("prunable_norm", because="modelopt/torch/nas/modules/norm.py:94 registers nn.LayerNorm, not nn.RMSNorm")
def prunable_norm() -> None:
    from modelopt.torch.nas.modules import _DynamicLayerNorm
    from modelopt.torch.nas.registry import DMRegistry
    from modelopt.torch.nas.traced_hp import TracedHp

    if torch.nn.RMSNorm in DMRegistry:
        return

    @DMRegistry.register({torch.nn.RMSNorm: "nn.RMSNorm"})
    class _DynamicRMSNorm(_DynamicLayerNorm):
        """An `nn.RMSNorm` whose number of features can be searched."""

        def _setup(self) -> None:
            self._register_hparam("num_features", TracedHp(list(range(1, self.normalized_shape[-1] + 1))))
            self._register_dynamic_attribute("weight", self._cut_to_active_features)
            self._register_dynamic_attribute("normalized_shape", self._get_normalized_shape)


@adjustment("fused_kernels", because="nemo/collections/llm/gpt/model/llama.py:81 asks for a kernel that is not there")
def fused_kernels() -> None:
    from megatron.core.transformer.transformer_config import TransformerConfig

    check = TransformerConfig.__post_init__
    has_softmax = find_spec("scaled_masked_softmax_cuda") is not None and torch.cuda.is_available()  # of Apex

    def check_without_fusions(self: TransformerConfig) -> None:
        # These choose a kernel, not a result. NeMo writes into a checkpoint what the config was built with, not these.
        self.apply_rope_fusion = False
        self.persist_layer_norm = False
        self.masked_softmax_fusion = self.masked_softmax_fusion and has_softmax
        check(self)

    TransformerConfig.__post_init__ = check_without_fusions


@adjustment("attention", because="megatron/core/transformer/dot_product_attention.py:176 keeps a score for each two tokens")
def attention() -> None:
    from megatron.core.transformer.dot_product_attention import DotProductAttention

    from nemo_plugins.platforms import attention

    DotProductAttention.forward = attention.forward


@adjustment(
    "adapted_layers", because="nemo/collections/llm/peft/lora.py:703 compares a layer's class with Transformer Engine's"
)
def adapted_layers() -> None:
    from nemo.collections.llm.peft import lora, utils

    lora.te = SimpleNamespace(Linear=None)
    utils.HAVE_TE = False  # Megatron's module of that name is there, its classes are not


@adjustment("optimizer_step", because="megatron/core/optimizer/distrib_optimizer.py:1646 takes torch's `step` for a shard")
def optimizer_step() -> None:
    """Let Megatron's distributed optimizer save and load over torch's AdamW, where Apex has none either.

    torch counts steps in each parameter's state, the fused optimizers in each group. Megatron copies torch's count to the
    groups, but it also takes the count for a shard, asks for it before there is a state, and loads one tensor for all
    parameters, which a step would then raise once for each of them.
    """
    from megatron.core.optimizer import distrib_optimizer

    if distrib_optimizer.HAVE_APEX_OR_TE:
        return
    distributed = distrib_optimizer.DistributedOptimizer
    read, write = distributed._get_main_param_and_optimizer_states, distributed._set_main_param_and_optimizer_states
    state_dict, load_state_dict = distributed.state_dict, distributed.load_state_dict

    def read_all_but_step(self, model_param: torch.nn.Parameter) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in read(self, model_param).items() if name != "step"}

    def write_all_but_step(self, model_param: torch.nn.Parameter, tensors: dict[str, torch.Tensor]) -> None:
        group, place = self.model_param_group_index_map[model_param]
        state = self.optimizer.state[self.optimizer.param_groups[group]["params"][place]]
        with torch.no_grad():  # a shard of fp32 weights is a view of them
            write(self, model_param, {**tensors, "step": state["step"]})

    def state_dict_from_the_start(self) -> dict:
        if not self.optimizer.state:
            for shard in (shard for group in self.optimizer.param_groups for shard in group["params"]):
                empty = {name: torch.zeros_like(shard) for name in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[shard] = {"step": torch.tensor(0.0), **empty}
        return state_dict(self)

    def load_a_step_for_each(self, state: dict) -> None:
        load_state_dict(self, state)
        for own in self.optimizer.state.values():
            own["step"] = own["step"].clone()

    distributed._get_main_param_and_optimizer_states = read_all_but_step
    distributed._set_main_param_and_optimizer_states = write_all_but_step
    distributed.state_dict = state_dict_from_the_start
    distributed.load_state_dict = load_a_step_for_each
