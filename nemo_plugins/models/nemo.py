"""NeMo's side of a model: its configuration, its tokenizer, its Lightning module.

A checkpoint carries the Hugging Face files that describe the model (tokenizer, chat template, `config.json`, generation
config) in its tokenizer folder, which NeMo copies from stage to stage; export takes them from there unchanged.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import torch

from nemo_plugins.configs.schema import ModelConfig
from nemo_plugins.models import hf_config as config_json
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.runs import paths
from nemo_plugins.runs.atomic import write

DESCRIPTION = (  # of a Hugging Face folder: everything but weights and code
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def copy_description(source: Path, to: Path) -> None:
    """Copy the files of `DESCRIPTION` that `source` has; the weights stay where they are.

    All processes of a job do it, and none ever reads another's half-written file.
    """
    to.mkdir(parents=True, exist_ok=True)
    for name in DESCRIPTION:
        if (source / name).is_file():
            write(to / name, (source / name).read_bytes())


def tokenizer(source: Path, description: Path):
    """NeMo's tokenizer over a copy of the description files in `description`, a folder that NeMo copies into checkpoints."""
    from nemo.collections.common.tokenizers import AutoTokenizer

    copy_description(source, description)
    return AutoTokenizer(str(description), use_fast=True, trust_remote_code=False)


def named(path: str):
    """NeMo's class that a family names, `module.Class`."""
    module, name = path.split(".")
    return getattr(import_module(f"nemo.collections.llm.gpt.model.{module}"), name)


def config(model: ModelConfig, architecture: Architecture, dtype: torch.dtype, generation_config=None):
    """NeMo's configuration of a model.

    Set here because NeMo's importers lose it: context length (they take the sliding window's), head_dim of a width-pruned
    model, vocabulary with padding rows, tied embeddings.
    """
    family = FAMILIES[architecture.family]
    values = dict(
        num_layers=architecture.num_layers,
        hidden_size=architecture.hidden_size,
        ffn_hidden_size=architecture.ffn_hidden_size,
        num_attention_heads=architecture.num_attention_heads,
        num_query_groups=architecture.num_query_groups,
        kv_channels=architecture.head_dim,
        vocab_size=architecture.vocab_size,
        make_vocab_size_divisible_by=1,
        share_embeddings_and_output_weights=architecture.tied_embeddings,
        seq_length=model.context_length,
        rotary_base=model.rope_base,
        layernorm_epsilon=model.norm_eps,
        init_method_std=model.init_std,
        bf16=dtype is torch.bfloat16,
        fp16=dtype is torch.float16,
        params_dtype=dtype,
        cross_entropy_loss_fusion=dtype is torch.bfloat16,  # the fused one casts the logits' gradient to bf16
        generation_config=generation_config,
        **family.settings,
    )
    if (scaling := model.rope_scaling) and family.llama3_config:  # runs/prepare.py refuses it for other families
        return named(family.llama3_config)(
            **values,
            scale_factor=scaling["factor"],
            low_freq_factor=scaling["low_freq_factor"],
            high_freq_factor=scaling["high_freq_factor"],
            old_context_len=scaling["original_max_position_embeddings"],
        )
    return named(family.config)(**values)


def module(model: ModelConfig, architecture: Architecture, dtype: torch.dtype, nemo_tokenizer, generation_config=None):
    """NeMo's Lightning module with random weights, not yet allocated."""
    kind = named(FAMILIES[architecture.family].model)
    return kind(config(model, architecture, dtype, generation_config), tokenizer=nemo_tokenizer)


def description_of(checkpoint: Path) -> Path:
    """The folder with the Hugging Face description files inside a NeMo checkpoint.

    Raises:
        FileNotFoundError: the checkpoint was not made by this project or lost its tokenizer.
    """
    folder = paths.description(checkpoint)
    if folder is None:
        raise FileNotFoundError(f"no tokenizer in {checkpoint / 'context'}")
    return folder


def checkpoint_tokenizer(checkpoint: Path):
    """NeMo's tokenizer of a checkpoint."""
    from nemo.collections.common.tokenizers import AutoTokenizer

    return AutoTokenizer(str(description_of(checkpoint)), use_fast=True, trust_remote_code=False)


def stored_dtype(checkpoint: Path) -> torch.dtype:
    """Type in which a checkpoint keeps its embeddings (norms stay fp32 without Transformer Engine, so they do not tell)."""
    from megatron.core import dist_checkpointing

    metadata = dist_checkpointing.load_tensors_metadata(str(checkpoint / "weights"))
    return next(tensor.dtype for key, tensor in metadata.items() if key.endswith("word_embeddings.weight"))


def source_dtype(checkpoint: Path) -> torch.dtype:
    """Type of the teacher's weights as its `config.json` says it; where it does not, of what the checkpoint holds."""
    said = config_json.dtype(json.loads((description_of(checkpoint) / "config.json").read_text()))
    return DTYPES[said] if said else stored_dtype(checkpoint)


def hf_config(description: Path, nemo_config, dtype: torch.dtype) -> dict:
    """`config.json` of an exported model: the teacher's own, with the sizes that this checkpoint has."""
    values = json.loads((description / "config.json").read_text())
    values.pop("torch_dtype", None)
    values.update(
        num_hidden_layers=nemo_config.num_layers,
        hidden_size=nemo_config.hidden_size,
        intermediate_size=nemo_config.ffn_hidden_size,
        num_attention_heads=nemo_config.num_attention_heads,
        num_key_value_heads=nemo_config.num_query_groups,
        head_dim=nemo_config.kv_channels,
        dtype=str(dtype).removeprefix("torch."),
    )
    if kinds := values.get("layer_types"):  # all alike; transformers wants one a layer
        values["layer_types"] = kinds[: nemo_config.num_layers]
    return values
