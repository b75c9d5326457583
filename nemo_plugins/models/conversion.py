"""Hugging Face → NeMo → Hugging Face with NeMo's own converters, and nothing lost on the way.

What NeMo lacks: its converters drop the context length, head_dim or vocabulary padding of some Mistral configurations, run the
folder's own code, keep the tokenizer in a temporary folder shared by all users, and rewrite its special tokens; Qwen2's know no
tied embeddings, Llama's no biases.
"""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.models import hf_config, hf_model, nemo, random_weights
from nemo_plugins.models.families import LINEAR_BIAS, ModelFamily
from nemo_plugins.planning import convert_plan, quantize_plan
from nemo_plugins.runs import paths
from nemo_plugins.runs.atomic import whole
from nemo_plugins.runs.progress import Progress

OUTPUT = ("lm_head.weight", "output_layer.weight")  # Hugging Face's name and NeMo's


def connector(kind: str, folder: Path, config):
    """NeMo's importer or exporter `module.Class` of a folder, with this configuration in place of what it would read there:
    also to see whether it is Llama 4's, which no family's is."""
    base = nemo.named(kind)
    return type(base.__name__, (base,), {"config": config, "is_llama4": lambda self: False})(str(folder))


@contextmanager
def completed(family: ModelFamily, tied: bool, imports: bool) -> Iterator[None]:
    """Within it, NeMo's converters know every tensor: no output projection where that is the embedding, which Qwen2's do not
    know, and the biases of all linear layers, which Llama's do not know."""
    from nemo.lightning import io

    apply = io.apply_transforms
    plain, merged = _biases(imports) if family.vectors == LINEAR_BIAS else ({}, [])

    def apply_to_all(source, target, mapping, transforms=(), **kwargs):
        mapping = {key: value for key, value in mapping.items() if not (tied and key in OUTPUT)} | plain
        transforms = [one for one in transforms if not (tied and one.source_key in OUTPUT)] + merged
        return apply(source, target, mapping, transforms, **kwargs)

    io.apply_transforms = apply_to_all
    try:
        yield
    finally:
        io.apply_transforms = apply


class WatchedState(UserDict):
    """A module's state that says which of its tensors is put in place.

    Args:
        state: what is changed.
    """

    def __init__(self, state: MutableMapping, progress: Progress):
        self.data: MutableMapping[str, torch.Tensor] = state  # type: ignore[assignment]  # typeshed knows a dict alone
        self.progress = progress
        progress.now("tensors", sum(not key.endswith("_extra_state") for key in state))

    def __setitem__(self, key: str, tensor: torch.Tensor) -> None:
        self.progress.now(key)
        self.data[key] = tensor
        self.progress.advance()


@contextmanager
def watched(progress: Progress) -> Iterator[None]:
    """Within it, NeMo's converters show each tensor; they have no hook for it."""
    from nemo.lightning.io import state

    context = state.TransformCTX
    state.TransformCTX = lambda *, target_state, **given: context(target_state=WatchedState(target_state, progress), **given)
    try:
        yield
    finally:
        state.TransformCTX = context


def _biases(imports: bool) -> tuple[dict[str, str], list]:
    """Mapping and transforms of the biases of all linear layers, as NeMo has those of the weights."""
    from nemo.lightning.io.state import TransformFns, state_transform

    attention, mlp, ours = (
        "model.layers.*.self_attn.{}_proj.bias",
        "model.layers.*.mlp.{}_proj.bias",
        "decoder.layers.*.{}.bias",
    )
    plain = {
        attention.format("o"): ours.format("self_attention.linear_proj"),
        mlp.format("down"): ours.format("mlp.linear_fc2"),
    }
    qkv, fc1 = tuple(map(attention.format, "qkv")), tuple(map(mlp.format, ("gate", "up")))
    merged = [
        (qkv, ours.format("self_attention.linear_qkv"), TransformFns.merge_qkv_bias, TransformFns.split_qkv_bias),
        (fc1, ours.format("mlp.linear_fc1"), TransformFns.merge_fc1, TransformFns.split_fc1),
    ]
    if imports:
        return plain, [state_transform(source_key=theirs, target_key=one, fn=merge) for theirs, one, merge, _ in merged]
    split = [state_transform(source_key=one, target_key=theirs, fn=split) for theirs, one, _, split in merged]
    return {one: theirs for theirs, one in plain.items()}, split


def import_hf(source: Path, to: Path, module, dtype: torch.dtype, progress: Progress | None = None) -> None:
    """Write the Hugging Face folder `source` as a NeMo checkpoint `to`, whole or not at all.

    Both copies of the weights are in host memory at once.
    """
    from nemo import lightning as nl
    from nemo.lightning import teardown

    progress = progress or Progress("convert")
    progress.now(f"reading {source}")
    weights = hf_model.load(source, dtype)
    family = hf_config.family_of(weights.config.to_dict())
    importer = connector(family.importer, source, module.config)
    strategy = nl.MegatronStrategy(ckpt_save_optimizer=False, always_save_context=True)  # as `nemo_setup` has it
    trainer = importer.nemo_setup(module, nl.Trainer(devices=1, accelerator="cpu", strategy=strategy, logger=False))
    with completed(family, weights.config.tie_word_embeddings, imports=True), watched(progress):
        importer.convert_state(weights, module)
    progress.now(f"writing {to}", 0)
    with whole(to) as partial:
        importer.nemo_save(partial, trainer)
        teardown(trainer, module)


def load(checkpoint: Path, dtype: torch.dtype):
    """A NeMo checkpoint on the CPU in `dtype`, as a Lightning module with its trainer."""
    from nemo import lightning as nl
    from nemo.collections.llm.modelopt import set_modelopt_spec_if_exists_in_ckpt
    from nemo.lightning import _strategy_lib

    module = nl.io.load_context(checkpoint / "context", subpath="model")
    module.config.bf16, module.config.fp16 = dtype is torch.bfloat16, dtype is torch.float16
    module.config.params_dtype = module.config.pipeline_dtype = dtype
    module.config.perform_initialization = False
    set_modelopt_spec_if_exists_in_ckpt(module, str(checkpoint))
    strategy = nl.MegatronStrategy(ddp="pytorch", setup_optimizers=False)
    trainer = nl.Trainer(devices=1, accelerator="cpu", strategy=strategy, logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.strategy.setup_environment()
    with _strategy_lib.megatron_cpu_init_context(module.config):
        module.configure_model()
    trainer.strategy.setup(trainer)
    trainer.strategy.load_checkpoint(checkpoint)
    return module, trainer


def export_hf(checkpoint: Path, to: Path, dtype: torch.dtype | None = None, progress: Progress | None = None) -> torch.dtype:
    """Write a NeMo checkpoint as a Hugging Face folder, whole or not at all.

    Args:
        dtype: of the written weights; default: the teacher's.
    Returns: the type written.
    Raises:
        Failed: as `write_hf`.
    """
    from nemo.lightning import teardown

    dtype, progress = dtype or nemo.source_dtype(checkpoint), progress or Progress("convert")
    progress.now(f"reading {checkpoint}")
    module, trainer = load(checkpoint, dtype)
    write_hf(module, nemo.description_of(checkpoint), to, dtype, progress)
    teardown(trainer, module)
    return dtype


@dataclass(frozen=True)
class Weights:
    """What NeMo's exporters ask of a model: its configuration, and the weights of all of it by Megatron's names."""

    config: object
    tensors: Mapping[str, torch.Tensor]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return dict(self.tensors)


def write_hf(model, description: Path, to: Path, dtype: torch.dtype, progress: Progress | None = None) -> None:
    """Write a model as a Hugging Face folder (sharded safetensors, tokenizer, templates), whole or not at all.

    Args:
        model: NeMo's module or `Weights`, in `dtype`, on the CPU.
        description: folder with the files of `nemo.DESCRIPTION`.
    Raises:
        Failed: a weight is not finite, in this type or at all.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_utils import no_init_weights

    progress = progress or Progress("convert")
    values = nemo.hf_config(description, model.config, dtype)
    config, family = AutoConfig.for_model(**values), hf_config.family_of(values)
    exporter = connector(family.exporter, description, config)
    with no_init_weights():
        target = AutoModelForCausalLM.from_config(config, torch_dtype=dtype)
    with completed(family, config.tie_word_embeddings, imports=False), watched(progress):
        target = exporter.convert_state(model, target)
    target.tie_weights()  # where the configuration says so: the converter has put a new matrix in one place only
    for name, weight in target.named_parameters():
        if not weight.isfinite().all():
            raise runs.Failed(
                f"{name} of {to} is not finite in {str(dtype).removeprefix('torch.')}",
                "the training that left it failed, or, in fp16, a weight is beyond 65,504: convert.dtype=bf16 holds it",
            )
    progress.now(f"writing {to}", 0)
    with whole(to) as partial:
        target.save_pretrained(partial, safe_serialization=True)
        nemo.copy_description(description, partial)
        (partial / "config.json").write_text(json.dumps(values, indent=2) + "\n")


def run(cfg: Recipe, run: runs.Run) -> None:
    """`convert.to=nemo`: import the teacher's folder or a random one. `convert.to=hf`: export the run's newest checkpoint."""
    platforms.prepare()
    if cfg.convert.to == "nemo":
        if cfg.convert.random:
            source, made = random_weights.write(cfg, run.folder / "hf"), {"hf": run.folder / "hf"}
        else:
            key = "convert.source" if cfg.convert.source else "model.path"
            source, made = run.input(paths.weights_of(cfg.convert.source or cfg.model.path, key)), {}
        dtype = nemo.DTYPES[convert_plan.dtype(cfg, source)]
        generation = None
        if (source / "generation_config.json").is_file():
            from transformers import GenerationConfig

            generation = GenerationConfig.from_pretrained(str(source))
        tokenizer = nemo.tokenizer(source, run.folder / "tokenizer")
        module = nemo.module(cfg.model, runs.architecture(cfg.model), dtype, tokenizer, generation)
        with Progress("convert", unit="tensors") as progress:
            import_hf(source, run.folder / "checkpoint", module, dtype, progress)
        about: dict[str, Any] = {hf_config.RANDOM: cfg.run.seed} if cfg.convert.random else {}
        run.finish(
            outputs={"checkpoint": run.folder / "checkpoint", **made},
            next=runs.command(cfg, "prune", *runs.left_by("teacher.path", run.folder / "checkpoint", ("convert-import",))),
            dtype=str(dtype).removeprefix("torch."),
            **about,
        )
    else:
        source = run.input(convert_plan.checkpoint_of(cfg))
        wanted = nemo.DTYPES[convert_plan.DTYPES[cfg.convert.dtype]] if cfg.convert.dtype else None
        with Progress("convert", unit="tensors") as progress:
            dtype = export_hf(source, run.folder / "hf", wanted, progress)
        run.finish(
            outputs={"hf": run.folder / "hf"},
            next=runs.command(cfg, "quantize", *runs.left_by("export.source", run.folder / "hf", quantize_plan.SOURCES)),
            dtype=str(dtype).removeprefix("torch."),
        )
