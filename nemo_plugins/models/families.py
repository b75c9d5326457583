"""The model families that are taken, each declared once: what its `config.json` means, what its layers hold, NeMo's names.

Imports neither torch nor NeMo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple


class LayerVector(NamedTuple):
    """A bias or norm that layers have besides their matrices and two norms.

    Its name in a layer of a Hugging Face folder and of a GGUF file, and which size of `Architecture` it has.
    """

    hf: str
    gguf: str
    size: str


QKV_BIAS = (
    LayerVector("self_attn.q_proj.bias", "attn_q.bias", "query_size"),
    LayerVector("self_attn.k_proj.bias", "attn_k.bias", "key_size"),
    LayerVector("self_attn.v_proj.bias", "attn_v.bias", "key_size"),
)
LINEAR_BIAS = (
    *QKV_BIAS,
    LayerVector("self_attn.o_proj.bias", "attn_output.bias", "hidden_size"),
    LayerVector("mlp.gate_proj.bias", "ffn_gate.bias", "ffn_hidden_size"),
    LayerVector("mlp.up_proj.bias", "ffn_up.bias", "ffn_hidden_size"),
    LayerVector("mlp.down_proj.bias", "ffn_down.bias", "hidden_size"),
)
QK_NORM = (  # RMSNorm of each head's query and key
    LayerVector("self_attn.q_norm.weight", "attn_q_norm", "head_dim"),
    LayerVector("self_attn.k_norm.weight", "attn_k_norm", "head_dim"),
)


@dataclass(frozen=True)
class ModelFamily:
    """What sets one family apart; the defaults are what most of them share.

    Attributes:
        title: its name in messages.
        model_type, architectures: fields of `config.json`; llama.cpp's converter goes by the first architecture.
        config, model, importer, exporter: NeMo's classes, `module.Class` below `nemo.collections.llm.gpt.model`.
        llama3_config: the one with Llama 3.1's RoPE scaling; None: NeMo has none for this family.
        settings: fields of NeMo's configuration that differ from its defaults.
        gguf: llama.cpp's name of the architecture, the prefix of its keys.
        gguf_square: whether llama.cpp loads it only where query heads times head_dim are hidden_size.
        vectors: what a layer holds besides its matrices and two norms.
        query_groups, head_dim, context_length, sliding_window: transformers' defaults where `config.json` says nothing.
            None: as many groups as heads, hidden size over heads, no window.
        window_switch: whether `use_sliding_window` decides, so that `sliding_window` alone means nothing.
        only: further fields of its `config.json` with the value that makes a model one of this family.
        harmless: fields that change no logit; `layer_types` as far as every layer sees all of the context.
    """

    title: str
    model_type: str
    architectures: tuple[str, ...]
    config: str
    model: str
    importer: str
    exporter: str
    llama3_config: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    gguf: str = "llama"
    gguf_square: bool = False
    vectors: tuple[LayerVector, ...] = ()
    query_groups: int | None = None
    head_dim: int | None = None
    context_length: int = 32768
    sliding_window: int | None = None
    window_switch: bool = False
    only: Mapping[str, Any] = field(default_factory=dict)
    harmless: frozenset[str] = frozenset()


LLAMA = ModelFamily(
    title="Llama",
    model_type="llama",
    architectures=("LlamaForCausalLM", "LLaMAForCausalLM"),
    config="llama.LlamaConfig",
    llama3_config="llama.Llama31Config",
    model="llama.LlamaModel",
    importer="llama.HFLlamaImporter",
    exporter="llama.HFLlamaExporter",
    context_length=2048,
)

FAMILIES = {  # by `model.family` of the configuration
    "mistral": ModelFamily(
        title="Mistral",
        model_type="mistral",
        architectures=("MistralForCausalLM",),
        config="mistral.MistralConfig7B",
        model="mistral.MistralModel",
        # Mistral and Llama name and shape their tensors alike, and NeMo's Llama converters know tied embeddings
        importer="llama.HFLlamaImporter",
        exporter="llama.HFLlamaExporter",
        # No window: sequences stay within it (planning/checks.py), and Megatron's local attention cannot reload one.
        settings={"window_size": None, "cp_comm_type": None},
        query_groups=8,
        context_length=131072,
        sliding_window=4096,
    ),
    "llama": LLAMA,
    "llama_bias": replace(  # as Bielik's of 1.5B and 4.5B, v3, are (mlc-ai/mlc-llm, pull request 3494)
        LLAMA,
        architectures=("LlamaForCausalLM",),
        settings={"add_bias_linear": True},
        vectors=LINEAR_BIAS,
        only={"attention_bias": True, "mlp_bias": True},
    ),
    "qwen2": ModelFamily(
        title="Qwen2",
        model_type="qwen2",
        architectures=("Qwen2ForCausalLM",),
        config="qwen2.Qwen2Config",
        model="qwen2.Qwen2Model",
        importer="qwen2.HFQwen2Importer",
        exporter="qwen2.HFQwen2Exporter",
        gguf="qwen2",
        gguf_square=True,
        vectors=QKV_BIAS,
        query_groups=32,
        window_switch=True,
        harmless=frozenset({"max_window_layers", "layer_types"}),
    ),
    "qwen3": ModelFamily(
        title="Qwen3",
        model_type="qwen3",
        architectures=("Qwen3ForCausalLM",),
        config="qwen3.Qwen3Config",
        model="qwen3.Qwen3Model",
        importer="qwen3.HFQwen3Importer",
        exporter="qwen3.HFQwen3Exporter",
        gguf="qwen3",
        vectors=QK_NORM,
        query_groups=32,
        head_dim=128,
        window_switch=True,
        harmless=frozenset({"max_window_layers", "layer_types"}),
    ),
}


def of(config: Mapping[str, Any]) -> str:
    """The family that a `config.json` is of. Raises ValueError: of none."""
    alike = {name: family for name, family in FAMILIES.items() if config.get("model_type") == family.model_type}
    fits = [name for name, family in alike.items() if all(config.get(key) == value for key, value in family.only.items())]
    if alike and not fits:
        family = next(iter(alike.values()))
        key = next(key for key, value in family.only.items() if config.get(key) != value)
        raise ValueError(f"{key} is {config.get(key)!r}; expected {family.only[key]!r} in a {family.title}")
    if not fits:
        known = ", ".join(dict.fromkeys(family.model_type for family in FAMILIES.values()))
        raise ValueError(f"model_type is {config.get('model_type')!r}; expected one of {known}")
    return fits[-1]  # of several the one that asks for more


def titles() -> str:
    """The families' names for a message: `Mistral, Llama or Qwen2`."""
    *others, last = dict.fromkeys(family.title for family in FAMILIES.values())
    return f"{', '.join(others)} or {last}"
