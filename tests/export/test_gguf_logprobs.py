"""Log-probabilities of llama.cpp from an exported file against those of transformers from the folder, behind equal tokens."""

import pytest
import random_models
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, DynamicCache

from nemo_plugins.configs.schema import Target
from nemo_plugins.export import gguf_file
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.planning import hf_folder
from nemo_plugins.serving.llama_cpp import LlamaCpp

pytestmark = pytest.mark.long  # it loads transformers and llama.cpp

CONTEXT = 64
IN_FP32 = 5e-5  # nats between two orders of the same fp32 sums
SHAPE = dict(
    vocab_size=4096, hidden_size=128, intermediate_size=192, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2,
    max_position_embeddings=CONTEXT, rope_theta=1e6, initializer_range=0.1, tie_word_embeddings=True,
    bos_token_id=1, eos_token_id=2, dtype="float32",
)  # fmt: skip
TOKENS = torch.randint(3, 4096, (CONTEXT,), generator=torch.Generator().manual_seed(0)).tolist()


def in_half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half().float()


class HalfCache(DynamicCache):
    """Keys and values as llama.cpp keeps them by default."""

    def update(self, key_states, value_states, *rest, **further):
        return super().update(in_half(key_states), in_half(value_states), *rest, **further)


@torch.no_grad()
def in_transformers(model, **cache) -> torch.Tensor:
    return model(torch.tensor([TOKENS]), **cache).logits[0].log_softmax(-1)


def in_llama_cpp(file, exact: bool) -> torch.Tensor:
    model = LlamaCpp(file, context=CONTEXT, exact=exact)
    found = torch.from_numpy(model.logits(TOKENS)).log_softmax(-1)
    model.close()
    return found


def largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


@pytest.mark.parametrize("name", FAMILIES)
def test_log_probabilities_differ_by_what_fp16_explains_and_no_more(tmp_path, name):
    """In fp32 they are equal. A chat's answers may part all the same: its cache is in fp16, and the two likeliest tokens of
    random weights are often closer than that shifts them. So what fp16 does is done in transformers, and bounds the difference.
    """
    family, folder = FAMILIES[name], tmp_path / "hf"
    head_dim = 16 if family.gguf_square else 32  # llama.cpp wants hidden size over heads, or takes another
    random_models.write(CONFIG_MAPPING[family.model_type](**family.only, **SHAPE, head_dim=head_dim), folder, bias_std=0.5)
    exact, half = tmp_path / "f32.gguf", tmp_path / "f16.gguf"
    gguf_file.convert(hf_folder.read(folder, "export.source"), exact, name, adds_space=False)
    gguf_file.quantise(exact, half, Target.f16, 1, None)

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    known = in_transformers(model)
    assert largest(in_llama_cpp(exact, exact=True), known) < IN_FP32
    explained = largest(in_transformers(model, past_key_values=HalfCache()), known)
    assert IN_FP32 < largest(in_llama_cpp(exact, exact=False), known) < 2 * explained

    with torch.no_grad():  # the file of fp16 besides: matrices, and what they are multiplied with
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(in_half(parameter))
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(lambda _, arguments: (in_half(arguments[0]),))
    explained = largest(in_transformers(model, past_key_values=HalfCache()), known)
    assert largest(in_llama_cpp(half, exact=False), known) < 2 * explained < 0.1
