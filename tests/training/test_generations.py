"""A model that speaks while it is trained: what is switched off for it, and that nothing of it is left behind."""

import json
from types import SimpleNamespace

import pytest
import torch
from megatron.core import parallel_state
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from torch import distributed

from nemo_plugins import platforms
from nemo_plugins.alignment.rollouts.megatron import generating
from nemo_plugins.training.generations import Generations

pytestmark = pytest.mark.nemo

END, VOCABULARY = 3, 8


class Adapter(torch.nn.Module):
    """The switch of NeMo's `ParallelLinearAdapter`."""

    def __init__(self):
        super().__init__()
        self.disable_sequence_parallel_comm = False


class Model(torch.nn.Module):
    """Megatron's model as far as `generating` looks: under sequence parallelism over 2 it takes even lengths alone."""

    position_embedding_type = "rope"

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(sequence_parallel=True)
        self.linear, self.adapter = torch.nn.Linear(1, 1), Adapter()
        self.linear.sequence_parallel = True

    def forward(self, tokens, positions, mask):
        whole = not (self.linear.sequence_parallel or self.config.sequence_parallel)
        assert (whole and self.adapter.disable_sequence_parallel_comm) or not tokens.shape[1] % 2
        assert not self.training
        return torch.nn.functional.one_hot((tokens + 1) % VOCABULARY, VOCABULARY).float()  # counts on


@pytest.fixture
def model(tmp_path):
    platforms.prepare()
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    yield Model()
    parallel_state.destroy_model_parallel()
    distributed.destroy_process_group()


def test_answers_are_of_any_length_under_sequence_parallelism(model, tmp_path):
    tokenizer = SimpleNamespace(eos_token_id=END, decode=lambda ids, skip_special_tokens: " ".join(map(str, ids)))
    strategy = SimpleNamespace(megatron_parallel=[model])
    trainer = SimpleNamespace(strategy=strategy, is_global_zero=True, global_step=2)
    model.train()
    Generations(tmp_path, {"Licz.": [5]}, {END}, tokenizer, longest=64, tokens=16).on_validation_end(trainer, None)
    said = json.loads((tmp_path / "samples" / "step=0000002.json").read_text())
    assert said == [{"prompt": "Licz.", "answer": "6 7 0 1 2 3"}]
    assert model.training and model.config.sequence_parallel and model.linear.sequence_parallel
    assert not model.adapter.disable_sequence_parallel_comm


def test_a_backward_pass_may_save_the_rotary_embedding_afterwards(model):
    rotary = RotaryEmbedding(kv_channels=8, rotary_percent=1.0, use_cpu_initialization=True)
    with generating(model), torch.inference_mode():
        assert rotary(16).is_inference()
    assert not rotary(16).is_inference()
