"""What a `config.json` says of the arithmetic: understood whole, or refused by the field's name.

A field that is ignored although it changes the arithmetic gives another model without a word. So each field is one of three:
read, with transformers' own default where it is absent; of the one value at which it changes nothing (`ONLY`); or known to
change no logit (`HARMLESS`, and what the family declares). Any other is refused. Imports neither torch nor NeMo.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_plugins.models import families
from nemo_plugins.models.families import FAMILIES, ModelFamily

SIZES = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "ffn_hidden_size": "intermediate_size",
    "num_attention_heads": "num_attention_heads",
    "vocab_size": "vocab_size",
}
READ = {
    *SIZES.values(), "model_type", "architectures", "num_key_value_heads", "head_dim", "max_position_embeddings",
    "tie_word_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "sliding_window",
    "initializer_range", "dtype", "torch_dtype", "quantization_config",
}  # fmt: skip
ONLY: dict[str, tuple[Any, ...]] = {  # beside null, which is the field's absence
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "bias": (False,),
    "partial_rotary_factor": (1,),
    "rope_interleaved": (False,),
    "use_sliding_window": (False,),
    "use_mrope": (False,),
    "pruned_heads": ({},),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
}
RANDOM = "random_weights"  # the seed of weights that nobody has trained (models/random_weights.py)
GENERATION = {  # older files have here what generation_config.json has: it chooses among logits
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty",
    "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "forced_bos_token_id", "forced_eos_token_id",
    "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
}  # fmt: skip
HARMLESS = GENERATION | {
    # where it comes from
    "_name_or_path", "_commit_hash", "transformers_version", "is_llama_config", "unsloth_version", "unsloth_fixed",
    "transformers.js_config", "finetuning_task", "task_specific_params", "tokenizer_class", "model_max_length",
    RANDOM,
    # special tokens
    "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "cls_token_id", "mask_token_id",
    "decoder_start_token_id", "prefix",
    # how it is computed and what is returned: the values are the same
    "use_cache", "pretraining_tp", "chunk_size_feed_forward", "gradient_checkpointing", "_attn_implementation",
    "attn_implementation", "_attn_implementation_autoset", "_flash_attn_2_enabled", "torchscript", "use_bfloat16",
    "tf_legacy_loss", "return_dict", "return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores",
    "is_decoder",
    # of training, or of heads other than the language model's
    "attention_dropout", "neftune_noise_alpha", "id2label", "label2id", "num_labels", "problem_type",
}  # fmt: skip
NUMBERS: dict[str, type | tuple[type, ...]] = {  # where they are given
    "num_key_value_heads": int, "head_dim": int, "max_position_embeddings": int, "sliding_window": int,
    "rope_theta": (int, float), "rms_norm_eps": (int, float),
}  # fmt: skip
DTYPES = ("float32", "bfloat16", "float16")
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
FULL = "full_attention"  # the kind of layer that sees the whole context
ROPE_BASE, NORM_EPS = 10000.0, 1e-6


def check(config: Mapping[str, Any]) -> None:
    """Refuse what would be computed otherwise than the file says.

    Raises:
        ValueError: names the field, what it says and what is expected.
    """
    family = family_of(config)
    if wrong := [name for name in config.get("architectures") or () if name not in family.architectures]:
        raise ValueError(f"architectures names {wrong[0]}; expected {family.architectures[0]}")
    for name, values in (ONLY | {name: (value,) for name, value in family.only.items()}).items():
        if config.get(name) is not None and config[name] not in values:
            raise ValueError(f"{name} is {config[name]!r}; expected {values[0]!r}")
    known = READ | ONLY.keys() | HARMLESS | family.only.keys() | family.harmless
    unknown = [name for name, value in config.items() if name not in known and value is not None]
    if unknown:
        raise ValueError(
            f"{unknown[0]} is {config[unknown[0]]!r}, a field that is not known here and may change what the model computes; "
            f"expected the fields of transformers' {family.title}; where it changes nothing, take it out of config.json"
        )
    absent = [name for name in SIZES.values() if not isinstance(config.get(name), int)]
    if absent:
        raise ValueError(f"no number for {', '.join(absent)}")
    for name, kind in NUMBERS.items():
        if config.get(name) is not None and not isinstance(config[name], kind):
            raise ValueError(f"{name} is {config[name]!r}; expected a number")
    if wrong := [kind for kind in config.get("layer_types") or () if kind != FULL]:
        raise ValueError(f"layer_types names {wrong[0]}; expected {FULL} for every layer")
    rope_scaling(config)
    sliding_window(config)
    _check_rope_parameters(config)
    dtype(config)


def family_of(config: Mapping[str, Any]) -> ModelFamily:
    """The family of a `config.json`. Raises ValueError: of none."""
    return FAMILIES[families.of(config)]


def query_groups(config: Mapping[str, Any]) -> int:
    """Key-value heads."""
    absent = family_of(config).query_groups
    return config.get("num_key_value_heads", absent) or config["num_attention_heads"]


def head_dim(config: Mapping[str, Any]) -> int:
    """Channels of a head."""
    absent = family_of(config).head_dim or config["hidden_size"] // config["num_attention_heads"]
    return config.get("head_dim") or absent


def context_length(config: Mapping[str, Any]) -> int:
    """Positions that the model knows."""
    return config.get("max_position_embeddings") or family_of(config).context_length


def rope_base(config: Mapping[str, Any]) -> float:
    """RoPE's θ."""
    return float(config.get("rope_theta") or ROPE_BASE)


def norm_eps(config: Mapping[str, Any]) -> float:
    """What the norms add to the variance."""
    return float(config.get("rms_norm_eps") or NORM_EPS)


def rope_scaling(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Llama 3.1's scaling of RoPE, the only one that NeMo has, as `rope_type` and `LLAMA3`; None where there is none.

    Raises:
        ValueError: another kind, or one of its numbers is missing or unknown.
    """
    scaling = config.get("rope_scaling")
    if not scaling:
        return None
    if not isinstance(scaling, Mapping):
        raise ValueError(f"rope_scaling is {scaling!r}; expected an object or null")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3" or not family_of(config).llama3_config:
        able = " or ".join(dict.fromkeys(family.model_type for family in FAMILIES.values() if family.llama3_config))
        raise ValueError(f"rope_scaling of a {config['model_type']} is {kind}; expected none, or llama3 in a {able}")
    wrong = [name for name in LLAMA3 if not isinstance(scaling.get(name), (int, float)) or scaling[name] <= 0]
    if wrong:
        raise ValueError(f"rope_scaling has {wrong[0]}={scaling.get(wrong[0])}; llama3 wants a number for each of {LLAMA3}")
    if unknown := sorted(scaling.keys() - {*LLAMA3, "rope_type", "type"}):
        raise ValueError(f"rope_scaling has {unknown[0]}, which llama3 has not; expected {', '.join(LLAMA3)}")
    if not scaling["low_freq_factor"] < scaling["high_freq_factor"]:
        raise ValueError("rope_scaling: low_freq_factor is not below high_freq_factor")
    return {"rope_type": kind, **{name: scaling[name] for name in LLAMA3}}


def sliding_window(config: Mapping[str, Any]) -> int | None:
    """Tokens that attention sees; None: all of the context.

    Raises:
        ValueError: a family has one that transformers ignores and others do not.
    """
    family = family_of(config)
    window = config.get("sliding_window", family.sliding_window)
    if window is None or window >= context_length(config) or family.window_switch:  # a switch that is on is refused (`ONLY`)
        return None
    if family.sliding_window is None:
        name = config["model_type"]
        raise ValueError(f"sliding_window of a {name} is {window}; expected none: transformers computes without it")
    return window


def dtype(config: Mapping[str, Any]) -> str | None:
    """Type of the weights; None where it is not said.

    Raises:
        ValueError: it is none of `DTYPES`.
    """
    said = config.get("dtype") or config.get("torch_dtype")  # in transformers' order
    if said is None or said == "auto":
        return None
    name = str(said).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype is {said!r}; expected {', '.join(DTYPES)}")
    return name


def random_weights(folder: Path | None) -> int | None:
    """The seed that a folder's `config.json` says its model's weights, or those that it was made from, were drawn with."""
    file = folder / "config.json" if folder else None
    return json.loads(file.read_text()).get(RANDOM) if file and file.is_file() else None


def _check_rope_parameters(config: Mapping[str, Any]) -> None:
    """transformers 5 writes θ and scaling into one field, which the transformers here does not read."""
    parameters = config.get("rope_parameters") or {}
    if not isinstance(parameters, Mapping):
        raise ValueError(f"rope_parameters is {parameters!r}; expected an object or null")
    if not parameters:
        return
    kind = parameters.get("rope_type", "default")
    base = float(parameters.get("rope_theta") or rope_base(config))
    scaling = {key: value for key, value in parameters.items() if key not in ("rope_theta", "partial_rotary_factor")}
    if parameters.get("partial_rotary_factor") not in (None, 1):
        raise ValueError(f"rope_parameters has partial_rotary_factor={parameters['partial_rotary_factor']}; expected 1")
    try:
        same = rope_scaling(config) == rope_scaling({**config, "rope_scaling": scaling if kind != "default" else None})
    except ValueError as error:
        raise ValueError(f"rope_parameters: {error}") from None
    if base != rope_base(config) or not same:
        raise ValueError(
            f"rope_parameters is {parameters}, which the transformers that evaluates here does not read; "
            "expected the same once more as rope_theta and rope_scaling: add them to config.json"
        )
