"""Documents packed into one training window: with `data.document_boundaries` none sees another."""

import os
from pathlib import Path
from unittest import mock

import pytest
import torch
from megatron.core import parallel_state
from torch import distributed
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.data import default_collate

from nemo_plugins import platforms
from nemo_plugins.configs.schema import DataConfig

pytestmark = pytest.mark.nemo

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "tiny_pl"
SEQ_LENGTH, VOCABULARY = 24, 32128


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    platforms.prepare()
    store = distributed.FileStore(str(tmp_path_factory.mktemp("store") / "file"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    with mock.patch.dict(os.environ):  # Megatron leaves its choice of attention there, for whatever starts after it
        yield
    parallel_state.destroy_model_parallel()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def window_of(one_process, tmp_path_factory):
    """From whether documents are kept apart to a training window with the ends of several, and the number of each place's."""
    from nemo.collections.common.tokenizers import AutoTokenizer

    from nemo_plugins.data import text

    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text("".join(f"Zdanie {number} jest krótkie.\n" for number in range(200)))
    tokenizer = AutoTokenizer(str(BUNDLED))

    def window(apart: bool):
        data = DataConfig(heldout=[str(folder / "a.txt")], heldout_samples=2, document_boundaries=apart)
        module, _ = text.data_module(
            data, [str(folder / "a.txt")], "distill.data", tokenizer, folder / "cache", text.BatchShape(SEQ_LENGTH, 1, 1),
            seed=1,
        )  # fmt: skip
        module.build(trainer_max_steps=4)
        found = module._train_ds[0]
        document = torch.cat([torch.zeros(1, dtype=torch.long), (found["tokens"] == tokenizer.eod).cumsum(0)[:-1]])
        assert document.max() >= 2
        return found, document

    return window


@pytest.fixture(params=[False, True])
def sample(request, window_of):
    """A window, its documents, and whether they were to be kept apart."""
    return *window_of(request.param), request.param


@pytest.fixture
def model(one_process):
    """A small GPT of Megatron's own layers, called as NeMo's are."""
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.transformer_config import TransformerConfig

    torch.manual_seed(0)
    config = TransformerConfig(num_layers=2, hidden_size=32, num_attention_heads=4, use_cpu_initialization=True)
    spec = get_gpt_layer_local_spec(normalization="RMSNorm")
    made = GPTModel(config, spec, VOCABULARY, SEQ_LENGTH, position_embedding_type="rope").eval()
    return lambda attention_mask=None, **given: made(attention_mask=attention_mask, **given)


@torch.no_grad()
def losses(model, window) -> torch.Tensor:
    """−log p of each label `[s]`, through NeMo's own steps from a batch to a model."""
    from nemo.collections.llm.gpt.model.base import gpt_data_step, gpt_forward_step

    return gpt_forward_step(model, gpt_data_step(iter([default_collate([window])])))[0]


def changed(window, document):
    """The window with another second document, but for its end."""
    tokens = window["tokens"].clone()
    middle = (document == 1).nonzero()[:-1, 0]
    tokens[middle] = (tokens[middle] + 7) % VOCABULARY
    return {**window, "tokens": tokens}


def test_attention_is_told_which_document_a_token_is_of(sample):
    window, document, apart = sample
    assert window["attention_mask"].tolist() == (document if apart else 0 * document).tolist()
    assert window["loss_mask"].all()  # a document's end is learned, too


def test_a_change_in_one_document_changes_no_other_loss(model, sample):
    window, document, apart = sample
    before, after = losses(model, window), losses(model, changed(window, document))
    assert torch.equal(before[document == 0], after[document == 0])
    assert not torch.equal(before[document == 1], after[document == 1])
    assert torch.equal(before[document == 2], after[document == 2]) is apart


def test_packed_sequences_give_the_same_losses(model, window_of, monkeypatch):
    """As Transformer Engine gets a window; a stand-in takes the place of its attention, which asks for a GPU."""
    from megatron.core.transformer.dot_product_attention import DotProductAttention
    from nemo.collections.llm.gpt.data import pre_training
    from nemo.collections.llm.gpt.model import base

    numbered, document = window_of(True)
    wanted = losses(model, numbered)
    for module in (pre_training, base):
        monkeypatch.setattr(module, "HAVE_TE", True)
    whole, _ = window_of(False)
    assert "cu_seqlens" not in whole and "attention_mask" not in whole
    packed, _ = window_of(True)
    assert "attention_mask" not in packed and packed["tokens"].equal(numbered["tokens"])

    def attention(self, query, key, value, attention_mask, packed_seq_params=None, **_):  # [t, heads, d]
        assert packed_seq_params.qkv_format == "thd" and attention_mask is None
        lengths = packed_seq_params.cu_seqlens_q.diff().tolist()
        assert max(lengths) == packed_seq_params.max_seqlen_q
        parts = zip(*(tensor.transpose(0, 1).split(lengths, 1) for tensor in (query, key, value)), strict=True)
        made = [scaled_dot_product_attention(*part, is_causal=True, scale=self.softmax_scale) for part in parts]
        return torch.cat(made, 1).transpose(0, 1).flatten(1)

    monkeypatch.setattr(DotProductAttention, "forward", attention)
    before, after = losses(model, packed), losses(model, changed(packed, document))
    torch.testing.assert_close(before, wanted, rtol=1e-5, atol=1e-5)
    assert [torch.equal(before[document == n], after[document == n]) for n in range(3)] == [True, False, True]
