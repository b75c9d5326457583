"""Hugging Face → NeMo → Hugging Face loses nothing: weights to the bit, configuration, tokenizer, chat template."""

import json
import re
import sys
from pathlib import Path

import pytest
import random_models
import torch
import warm_start
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig

from nemo_plugins.models.families import FAMILIES

pytestmark = pytest.mark.nemo

SMALL = dict(num_hidden_layers=2, vocab_size=4096, bos_token_id=1, eos_token_id=2, sliding_window=None)
SCALED = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
MODELS = {
    # head_dim that is not hidden_size / heads, as Mistral-NeMo's; sizes that only a pruned model has; another RoPE base and eps
    "mistral_bf16": MistralConfig(
        hidden_size=96, intermediate_size=192, num_attention_heads=4, num_key_value_heads=2, head_dim=32, rope_theta=1e6,
        rms_norm_eps=1e-6, max_position_embeddings=128, dtype="bfloat16", **SMALL,
    ),
    "mistral_fp32_tied": MistralConfig(
        hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=4, head_dim=16,
        max_position_embeddings=64, tie_word_embeddings=True, dtype="float32", **SMALL,
    ),
    "llama_scaled": LlamaConfig(
        hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2, head_dim=16, rope_theta=5e5,
        max_position_embeddings=256, rope_scaling=SCALED, dtype="bfloat16", **SMALL,
    ),
}  # fmt: skip
# every other family; so many layers that their names do not sort by number
PLAIN = SMALL | dict(
    hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2, head_dim=32, rope_theta=1e6,
    max_position_embeddings=256, num_hidden_layers=11, dtype="bfloat16",
)  # fmt: skip
MODELS |= {
    f"{name}_{kind}": CONFIG_MAPPING[family.model_type](tie_word_embeddings=kind == "tied", **family.only, **PLAIN)
    for name, family in FAMILIES.items()
    for kind in ("untied", "tied")
    if name not in ("mistral", "llama")
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("conversions")
    for name, config in MODELS.items():
        random_models.write(config, root / name / "source", max_shard_size="500KB")
    script = Path(__file__).with_name("conversions.py")
    done = warm_start.run([sys.executable, str(script), str(root)], nemo=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return root


def tensors(folder):
    return {key: value for file in sorted(folder.glob("*.safetensors")) for key, value in load_file(file).items()}


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_comes_back_to_the_bit(converted, name):
    before, after = tensors(converted / name / "source"), tensors(converted / name / "hf")
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key]) or before[key].dtype != after[key].dtype] == []
    assert all((before[key] - 1).abs().max() > 0.1 for key in before if "norm" in key), "norms of 1 would prove nothing"
    assert all(before[key].abs().max() > 0.1 for key in before if key.endswith("bias")), "nor would biases of 0"


@pytest.mark.parametrize("name", MODELS)
def test_an_import_says_which_tensor_it_is_at_and_how_many_are_left(converted, name):
    lines = (converted / name / "progress.txt").read_text().splitlines()
    said = [re.fullmatch(r"convert: ([\w.]+), (\d+) of (\d+) tensors, .* left", line).groups() for line in lines]
    assert len({tensor for tensor, _, _ in said}) == len(said)
    assert [int(done) for _, done, _ in said] == list(range(1, len(said) + 1))
    assert {int(every) for *_, every in said} == {len(said)}


def test_another_type_is_the_same_weights_rounded(converted):
    folder = converted / "mistral_fp32_tied"
    exact, rounded = tensors(folder / "source"), tensors(folder / "rounded")
    assert exact.keys() == rounded.keys() and {value.dtype for value in rounded.values()} == {torch.bfloat16}
    assert [name for name in exact if not torch.equal(exact[name].bfloat16(), rounded[name])] == []
    assert json.loads((folder / "rounded" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_equal(converted, name):
    tokens = torch.arange(4, 60)[None]
    with torch.no_grad():
        before, after = (
            AutoModelForCausalLM.from_pretrained(converted / name / part, torch_dtype="auto")(tokens).logits
            for part in ("source", "hf")
        )
    assert (before - after).abs().max() == 0


@pytest.mark.parametrize("name", MODELS)
def test_configuration_and_tokenizer_come_through(converted, name):
    before, after = (json.loads((converted / name / part / "config.json").read_text()) for part in ("source", "hf"))
    assert before == {**after, "transformers_version": before["transformers_version"]}
    text = "Zażółć gęślą jaźń 🦢 123 <|im_start|>user\nco?<|im_end|>\n"
    tokenizers = [AutoTokenizer.from_pretrained(converted / name / part) for part in ("source", "hf")]
    assert tokenizers[0](text).input_ids == tokenizers[1](text).input_ids
    assert tokenizers[0].chat_template == tokenizers[1].chat_template != None  # noqa: E711
    for file in ("generation_config.json", "tokenizer.model", "special_tokens_map.json"):
        assert (converted / name / "source" / file).read_bytes() == (converted / name / "hf" / file).read_bytes()
