"""A field of `config.json` that changes what a model computes is read, or refused by its name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, LlamaConfig

from nemo_plugins.configs import options
from nemo_plugins.models import hf_config, random_weights
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.planning import convert_plan, prune_plan
from nemo_plugins.runs import UserError, architecture
from nemo_plugins.runs.prepare import compose

TINY = Path(__file__).resolve().parents[2] / "assets" / "tiny_pl"
SIZES = {
    "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 16, "vocab_size": 512,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
CHANGED = [  # model type, field, value
    ("llama", "rope_scaling", {"type": "linear", "factor": 2.0}),
    ("llama", "rope_scaling", {"rope_type": "dynamic", "factor": 2.0}),
    ("llama", "rope_scaling", {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}),
    ("llama", "rope_scaling", {"rope_type": "longrope", "factor": 4.0}),
    ("llama", "rope_scaling", {key: value for key, value in LLAMA3.items() if key != "low_freq_factor"}),
    ("llama", "rope_scaling", {**LLAMA3, "factor": "8"}),
    ("llama", "rope_scaling", {**LLAMA3, "attention_factor": 2.0}),
    ("llama", "rope_scaling", {**LLAMA3, "low_freq_factor": 4.0}),
    ("llama", "rope_scaling", "linear"),
    ("mistral", "rope_scaling", LLAMA3),
    ("mistral", "rope_scaling", {"type": "linear", "factor": 4.0}),
    ("llama", "rope_parameters", {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}),
    ("llama", "rope_parameters", {"rope_type": "default", "rope_theta": 500000.0}),
    ("llama", "rope_parameters", {**LLAMA3, "rope_theta": 10000.0}),
    ("mistral", "rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
    ("mistral", "hidden_act", "gelu"),
    ("llama", "hidden_act", "relu"),
    ("llama", "attention_bias", True),
    ("llama", "mlp_bias", True),  # either alone: Megatron has biases in all linear layers, or in none
    ("llama", "partial_rotary_factor", 0.5),
    ("llama", "rope_interleaved", True),
    ("llama", "sliding_window", 512),
    ("mistral", "sliding_window", "512"),
    ("llama", "pruned_heads", {"0": [1]}),
    ("mistral", "architectures", ["MistralForSequenceClassification"]),
    ("llama", "dtype", "float64"),
    ("llama", "torch_dtype", "float8_e4m3fn"),
    ("llama", "rope_theta", "500000"),
    ("llama", "logit_scale", 0.0625),
    ("llama", "logits_scaling", 8.0),
    ("llama", "final_logit_softcapping", 30.0),
    ("llama", "attn_logit_softcapping", 50.0),
    ("llama", "embedding_multiplier", 12.0),
    ("llama", "residual_multiplier", 0.22),
    ("llama", "attention_multiplier", 0.0078125),
    ("llama", "query_pre_attn_scalar", 256),
    ("mistral", "layer_types", ["sliding_attention", "full_attention"]),
    ("mistral", "num_local_experts", 8),
    ("mistral", "layer_types", ["full_attention", "full_attention"]),  # beside its window one would not know which holds
    ("qwen2", "use_sliding_window", True),
    ("qwen2", "layer_types", ["full_attention", "sliding_attention"]),
    ("qwen2", "rope_scaling", {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
    ("qwen2", "rope_scaling", LLAMA3),
    ("qwen2", "use_mrope", True),
    ("qwen3", "attention_bias", True),
    ("qwen2", "architectures", ["Qwen2MoeForCausalLM"]),
    ("qwen2", "num_experts", 8),
    ("llama", "no_rope_layers", [1, 0]),
    ("llama", "use_qk_norm", True),
    ("llama", "what_nobody_knows", False),
]


@pytest.mark.parametrize(("kind", "field", "value"), CHANGED)
def test_what_changes_the_arithmetic_is_refused_by_name(kind, field, value):
    config = {"model_type": kind, **SIZES, "max_position_embeddings": 1024, field: value}
    with pytest.raises(ValueError, match=field if field != "torch_dtype" else "dtype"):
        Architecture.from_hf(config)


@pytest.mark.parametrize(
    "made",
    [
        *(CONFIG_MAPPING[family.model_type](**family.only, **SIZES) for family in FAMILIES.values()),
        LlamaConfig(rope_scaling=dict(LLAMA3), **SIZES),
    ],
)
def test_what_transformers_itself_writes_is_understood(made):
    hf_config.check(json.loads(made.to_json_string(use_diff=False)))
    hf_config.check(json.loads(made.to_json_string()))


def test_a_field_that_only_one_family_has_is_read_and_any_other_value_refused(monkeypatch):
    only = {"attention_bias": True, "attention_out_bias": False}
    monkeypatch.setitem(FAMILIES, "invented", replace(FAMILIES["qwen2"], model_type="invented", only=only))
    config = {"model_type": "invented", **SIZES}
    assert Architecture.from_hf({**config, **only}).family == "invented"
    for wrong in ({**only, "attention_out_bias": True}, {"attention_bias": True}):
        with pytest.raises(ValueError, match="attention_out_bias is (True|None); expected False"):
            Architecture.from_hf({**config, **wrong})


def test_notes_of_well_known_repositories_change_nothing():
    plain = {"model_type": "llama", **SIZES}
    notes = {
        "_name_or_path": "x", "is_llama_config": True, "rope_interleaved": False, "pretraining_tp": 1, "unsloth_fixed": True,
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "temperature": 0.6, "hidden_act": "silu",
        "torch_dtype": "bfloat16", "attention_dropout": 0.1, "rope_scaling": {"rope_type": "default"}, "logit_scale": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }  # fmt: skip
    assert Architecture.from_hf(plain | notes) == Architecture.from_hf(plain)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_field_that_is_absent_is_transformers_own_default(kind):
    config = {"model_type": FAMILIES[kind].model_type, **FAMILIES[kind].only, **SIZES}
    ours, made = Architecture.from_hf(config), CONFIG_MAPPING[config["model_type"]](**SIZES)
    assert ours.family == kind
    assert (ours.num_query_groups, ours.norm_eps) == (made.num_key_value_heads, made.rms_norm_eps)
    assert (ours.rope_base, ours.context_length) == (made.rope_theta, made.max_position_embeddings)
    assert ours.head_dim == (getattr(made, "head_dim", None) or made.hidden_size // made.num_attention_heads)
    window = getattr(made, "sliding_window", None)
    assert hf_config.sliding_window(config) == window


def parameters_in_transformers(folder: Path) -> int:
    """Of the model that transformers makes of its `config.json`, without memory for it."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", [name for name in options("model") if name != "from_hf"])
def test_transformers_makes_as_many_parameters_of_what_a_model_file_says(tmp_path, name):
    cfg = compose([f"+model={name}", "model.num_layers=2"])
    described = random_weights.config(cfg.model, tmp_path, torch.bfloat16, 0)
    (tmp_path / "config.json").write_text(json.dumps(described))
    assert Architecture.from_hf(described) == architecture(cfg.model)
    assert parameters_in_transformers(tmp_path) == architecture(cfg.model).parameters()


def test_a_llama_with_biases_is_planned_from_its_folder(tmp_path):
    """Deep and narrow, with biases in all linear layers, as the smaller Bieliks are."""
    sizes = dict(num_hidden_layers=60, hidden_size=2048, intermediate_size=11008, vocab_size=32000, head_dim=128)
    config = LlamaConfig(**sizes, num_attention_heads=16, num_key_value_heads=2, attention_bias=True, mlp_bias=True)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path)
    made = prune_plan.plan(compose(["+model=from_hf", f"model.path={tmp_path}"]))
    rows = next(table for table in made.tables if table.title == "Sizes").rows
    [teacher] = [row[1] for row in rows if row[0] == "parameters"]
    assert f"{parameters_in_transformers(tmp_path):,}" in teacher


def test_a_window_as_long_as_the_context_is_none():
    config = {"model_type": "mistral", **SIZES, "max_position_embeddings": 4096}
    assert hf_config.sliding_window(config) is None
    assert hf_config.sliding_window({**config, "sliding_window": 1024}) == 1024


def test_a_window_that_is_switched_off_is_none():
    config = {"model_type": "qwen2", **SIZES, "sliding_window": 64, "use_sliding_window": False, "max_window_layers": 1}
    hf_config.check(config)
    assert hf_config.sliding_window(config) is None


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def edit(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("model", ["tiny_pl", "from_hf"])
@pytest.mark.parametrize("recipe", ["convert", "prune"])
@pytest.mark.parametrize(
    ("field", "value"),
    [("rope_scaling", {"type": "linear", "factor": 2.0}), ("hidden_act", "gelu"), ("quantization_config", {"bits": 4})],
)
def test_a_dry_run_refuses_a_source_that_would_be_another_model(folder, tmp_path, model, recipe, field, value):
    edit(folder, **{field: value})
    words = [f"+model={model}", f"model.path={folder}", f"run.root={tmp_path / 'runs'}", "dry_run=true", "prune.num_layers=6"]
    with pytest.raises(UserError, match="quantised" if field == "quantization_config" else field):
        (convert_plan if recipe == "convert" else prune_plan).plan(compose(words))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("rope_theta", 1e6, "model.rope_base=1000000.0"),
        ("rms_norm_eps", 1e-6, "model.norm_eps=1e-06"),
        ("sliding_window", 64, "model.sliding_window=64"),
        ("model_type", "llama", "model.family=llama"),
    ],
)
def test_a_folder_that_computes_otherwise_than_the_model_says_is_refused(folder, field, value, says):
    edit(folder, **{field: value} | ({"architectures": ["LlamaForCausalLM"]} if field == "model_type" else {}))
    with pytest.raises(UserError, match="another than model=tiny_pl describes") as refused:
        convert_plan.plan(compose(["+model=tiny_pl", f"model.path={folder}"]))
    assert says in str(refused.value)
    named = compose(["+model=tiny_pl", f"model.path={folder}", says])  # the way out that the message names
    assert not [missing for missing in convert_plan.plan(named).missing if missing.kind == "weights"]


@pytest.mark.parametrize(
    "words",
    [
        ("llama31_8b", "model.rope_scaling={rope_type:linear,factor:2.0}"),
        ("llama31_8b", "model.family=mistral"),
        ("tiny_pl", "model.rope_scaling={rope_type:linear,factor:2.0}"),  # where the model's own file has none
        ("tiny_pl", f"model.rope_scaling={json.dumps(LLAMA3).replace(chr(34), '')}"),
    ],
)
def test_a_scaling_that_nemo_has_not_is_refused_in_the_configuration_too(words):
    with pytest.raises(UserError, match="model.rope_scaling"):
        compose([f"+model={words[0]}", words[1]])


def test_a_scaling_is_given_and_taken_away_on_the_command_line():
    given = f"model.rope_scaling={json.dumps(LLAMA3).replace(chr(34), '')}"
    assert compose(["+model=tiny_pl", "model.family=llama", given]).model.rope_scaling == LLAMA3
    assert compose(["+model=llama31_8b", "model.rope_scaling=null"]).model.rope_scaling is None
    assert compose(["+model=tiny_pl"]).model.rope_scaling is None


@pytest.mark.parametrize(
    ("says", "asked", "written"),
    [
        ({"dtype": "bfloat16"}, None, "bfloat16"),
        ({"dtype": None, "torch_dtype": "float16"}, None, "float16"),
        ({"dtype": "float32"}, None, "float32"),
        ({"dtype": None}, None, "bfloat16"),  # as they are stored
        ({"dtype": "bfloat16"}, "fp32", "float32"),
        ({"dtype": "bfloat16"}, "fp16", "float16"),
        ({"dtype": "float32"}, "bf16", "bfloat16"),
    ],
)
def test_a_conversion_plans_the_type_and_the_size_of_what_it_writes(folder, tmp_path, says, asked, written):
    edit(folder, **says)
    words = ["+model=tiny_pl", f"model.path={folder}", f"run.root={tmp_path / 'runs'}"]
    for to in ("nemo", "hf"):
        cfg = compose([*words, f"convert.to={to}", *([f"convert.dtype={asked}"] if asked else [])])
        made = convert_plan.plan(cfg)
        assert dict(next(table for table in made.tables if table.title == "Conversion").rows)["written in"] == written
        assert made.writes == 9_965_824 * getattr(torch, written).itemsize
