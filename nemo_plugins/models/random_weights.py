"""A Hugging Face folder of a model's shapes with random weights: a machine's speed and memory are measured before a download.

`config.json` says so in a field of its own (`hf_config.RANDOM`), which conversions and trainings hand on to whatever is made of
it: cards tell, and nothing of it is published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from nemo_plugins import runs
from nemo_plugins.configs.schema import ModelConfig, Recipe
from nemo_plugins.models import hf_config, nemo
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.planning import convert_plan, hf_folder, weights
from nemo_plugins.runs.atomic import whole

SHARD = 5 * 10**9  # bytes, as transformers has it
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def write(cfg: Recipe, to: Path) -> Path:
    """Draw and write the weights of `cfg.model`, whole or not at all; one file is in memory at a time. Returns the folder.

    Matrices are normal with the model's own deviation, norms are 1. They are drawn on the CPU, so that `run.seed` gives the
    same ones everywhere.
    """
    tokenizer = convert_plan.tokenizer(cfg.model)
    dtype = nemo.DTYPES[convert_plan.dtype(cfg, tokenizer)]
    described = config(cfg.model, tokenizer, dtype, cfg.run.seed)
    draw = torch.Generator().manual_seed(cfg.run.seed)
    files = list(_files(runs.architecture(cfg.model), dtype.itemsize))
    names = [f"model-{number:05}-of-{len(files):05}.safetensors" for number in range(1, len(files) + 1)]
    if len(files) == 1:
        names = [weights.WEIGHTS]
    with whole(to) as partial:
        nemo.copy_description(tokenizer, partial)
        (partial / "config.json").write_text(json.dumps(described, indent=2) + "\n")
        for name, shapes in zip(names, files, strict=True):
            tensors = {}
            for key, shape in shapes.items():
                tensors[key] = torch.full(shape, float("norm" in key), dtype=dtype)
                if len(shape) > 1:
                    tensors[key].normal_(0, cfg.model.init_std, generator=draw)
            save_file(tensors, partial / name, metadata={"format": "pt"})
            runs.say(f"random weights: {name} written")
        if len(files) > 1:
            places = {key: name for name, shapes in zip(names, files, strict=True) for key in shapes}
            total = dtype.itemsize * sum(prod(shape) for shapes in files for shape in shapes.values())
            (partial / weights.INDEX).write_text(weights.index(places, total))
    return to


def config(model: ModelConfig, tokenizer: Path, dtype: torch.dtype, seed: int) -> dict[str, Any]:
    """`config.json` of the model, with the special tokens of the folder that the tokenizer is from."""
    file = tokenizer / "config.json"
    theirs = json.loads(file.read_text()) if file.is_file() else {}
    family = FAMILIES[model.family.value]
    return {
        "architectures": [family.architectures[0]],
        "model_type": family.model_type,
        **family.only,
        **{name: getattr(model, ours) for ours, name in hf_config.SIZES.items()},
        "num_key_value_heads": model.num_query_groups,
        "head_dim": model.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": model.context_length,
        "rope_theta": model.rope_base,
        "rope_scaling": dict(model.rope_scaling) if model.rope_scaling else None,
        "sliding_window": model.sliding_window,
        "rms_norm_eps": model.norm_eps,
        "initializer_range": model.init_std,
        "tie_word_embeddings": model.tied_embeddings,
        **{key: theirs[key] for key in IDS if key in theirs},
        "dtype": str(dtype).removeprefix("torch."),
        hf_config.RANDOM: seed,
    }


def _files(model: Architecture, bytes_per_value: int) -> Iterator[dict[str, tuple[int, ...]]]:
    """Names and shapes of the tensors of each file."""
    shapes: dict[str, tuple[int, ...]] = {}
    size = 0
    for key, shape in hf_folder.expected(model).items():
        mine = prod(shape) * bytes_per_value
        if shapes and size + mine > SHARD:
            yield shapes
            shapes, size = {}, 0
        shapes[key] = shape
        size += mine
    yield shapes
