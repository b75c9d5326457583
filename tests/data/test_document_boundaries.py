"""Documents packed into one training window: with `data.document_boundaries` none sees another."""

import os
from pathlib import Path
from unittest import mock

import pytest
import torch
from megatron.core import parallel_state
from torch import distributed

from nemo_plugins import platforms
from nemo_plugins.configs.schema import DataConfig

pytestmark = pytest.mark.nemo

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "tiny_pl"
SEQ_LENGTH = 24


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


@pytest.fixture(scope="module", params=[False, True])
def sample(request, one_process, tmp_path_factory):
    """A training window that holds the ends of several short documents, and whether they were to be kept apart."""
    from nemo.collections.common.tokenizers import AutoTokenizer

    from nemo_plugins.data import text

    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text("".join(f"Zdanie {number} jest krótkie.\n" for number in range(200)))
    data = DataConfig(heldout=[str(folder / "a.txt")], heldout_samples=2, document_boundaries=request.param)
    tokenizer = AutoTokenizer(str(BUNDLED))
    module, _ = text.data_module(
        data, [str(folder / "a.txt")], "distill.data", tokenizer, folder / "cache", text.BatchShape(SEQ_LENGTH, 1, 1), seed=1
    )  # fmt: skip
    module.build(trainer_max_steps=4)
    found = module._train_ds[0]
    document = torch.cat([torch.zeros(1, dtype=torch.long), (found["tokens"] == tokenizer.eod).cumsum(0)[:-1]])
    assert document.max() >= 2
    return found, document, request.param


def test_attention_is_told_which_document_a_token_is_of(sample):
    window, document, apart = sample
    assert window["attention_mask"].tolist() == (document if apart else 0 * document).tolist()
    assert window["loss_mask"].all()  # a document's end is learned, too


def test_a_change_in_one_document_changes_no_other_loss(sample):
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.transformer_config import TransformerConfig

    window, document, apart = sample
    torch.manual_seed(0)
    config = TransformerConfig(num_layers=2, hidden_size=32, num_attention_heads=4, use_cpu_initialization=True)
    vocabulary = 32128
    model = GPTModel(
        config, get_gpt_layer_local_spec(normalization="RMSNorm"), vocabulary, SEQ_LENGTH, position_embedding_type="rope"
    ).eval()

    def losses(tokens: torch.Tensor) -> torch.Tensor:
        parts = (tokens[None], window["position_ids"][None], window["attention_mask"][None])
        with torch.no_grad():
            return model(*parts, labels=window["labels"][None])[0]

    changed = window["tokens"].clone()
    middle = (document == 1).nonzero()[:, 0]
    changed[middle[:-1]] = (changed[middle[:-1]] + 7) % vocabulary  # all but its end
    before, after = losses(window["tokens"]), losses(changed)
    assert torch.equal(before[document == 0], after[document == 0])
    assert not torch.equal(before[document == 1], after[document == 1])
    assert torch.equal(before[document == 2], after[document == 2]) is apart
