"""What precision a training computes in, beyond its weights."""

from types import SimpleNamespace

import pytest
import torch
from megatron.core import parallel_state
from megatron.core.models.common.language_module.language_module import LanguageModule
from nemo.collections import llm
from nemo.lightning.pytorch.plugins.mixed_precision import update_config_with_dtype_overrides
from torch import distributed

from nemo_plugins.configs.schema import Precision
from nemo_plugins.training import trainer

pytestmark = pytest.mark.nemo


@pytest.fixture
def one_process(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    yield SimpleNamespace(tp=parallel_state.get_tensor_model_parallel_group())
    parallel_state.destroy_model_parallel()
    distributed.destroy_process_group()


def test_the_gradient_of_fp32_logits_is_torchs_own(one_process):
    """Also where the checkpoint was written by a run in bf16, whose fused cross-entropy casts the gradient to bf16."""
    sizes = {"num_layers": 1, "hidden_size": 8, "ffn_hidden_size": 8, "num_attention_heads": 1, "num_query_groups": 1}
    config = llm.LlamaConfig(**sizes, apply_rope_fusion=False, cross_entropy_loss_fusion=True)
    config = update_config_with_dtype_overrides(trainer.mixed_precision(Precision.fp32).dtype_config, config)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(7, 2, 50, generator=generator)
    labels = torch.randint(50, (2, 7), generator=generator)
    theirs, ours = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    want = torch.nn.functional.cross_entropy(theirs.transpose(0, 1).flatten(0, 1), labels.flatten(), reduction="sum")
    want.backward()
    module = SimpleNamespace(config=config, pg_collection=one_process)
    loss = LanguageModule.compute_language_model_loss(module, labels, ours * 1)
    loss.sum().backward()
    torch.testing.assert_close(loss.sum(), want, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)


def test_bf16_keeps_the_fused_cross_entropy():
    assert trainer.mixed_precision(Precision.bf16).dtype_config.cross_entropy_loss_fusion
