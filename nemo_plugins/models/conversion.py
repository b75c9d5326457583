"""Hugging Face → NeMo → Hugging Face with NeMo's own converters, and nothing lost on the way.

What NeMo lacks: its converters drop the context length, head_dim or vocabulary padding of some Mistral configurations, run the
folder's own code, keep the tokenizer in a temporary folder shared by all users, and rewrite its special tokens.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from nemo.collections.llm.gpt.model.llama import HFLlamaExporter, HFLlamaImporter

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.models import hf_config, nemo, random_weights
from nemo_plugins.planning import convert_plan, quantize_plan


class Importer(HFLlamaImporter):
    """NeMo's Llama importer; Mistral and Llama name and shape their tensors alike, and this one knows tied embeddings."""


class Exporter(HFLlamaExporter):
    """NeMo's Llama exporter for either family, with the teacher's own `config.json` as the start."""

    dtype: torch.dtype
    nemo_config: object

    @property
    def config(self):
        from transformers import AutoConfig

        values = nemo.hf_config(nemo.description_of(Path(str(self))), self.nemo_config, self.dtype)
        return AutoConfig.for_model(**values)


def import_hf(source: Path, to: Path, module, dtype: torch.dtype) -> None:
    """Write the Hugging Face folder `source` as a NeMo checkpoint `to`, whole or not at all.

    Both copies of the weights are in host memory at once.
    """
    from nemo import lightning as nl
    from nemo.lightning import teardown
    from transformers import AutoModelForCausalLM

    partial = to.with_name(f"{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    weights = AutoModelForCausalLM.from_pretrained(
        str(source), torch_dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False
    )
    importer = Importer(str(source))
    strategy = nl.MegatronStrategy(ckpt_save_optimizer=False, always_save_context=True)  # as `nemo_setup` has it
    trainer = importer.nemo_setup(module, nl.Trainer(devices=1, accelerator="cpu", strategy=strategy, logger=False))
    importer.convert_state(weights, module)
    importer.nemo_save(partial, trainer)
    teardown(trainer, module)
    runs.put_in_place(partial, to)


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


def export_hf(checkpoint: Path, to: Path, dtype: torch.dtype | None = None) -> torch.dtype:
    """Write a NeMo checkpoint as a Hugging Face folder (sharded safetensors, tokenizer, templates), whole or not at all.

    Args:
        dtype: of the written weights; default: the teacher's.
    Returns: the type written.
    Raises:
        Failed: a weight is not finite, in this type or at all.
    """
    from nemo.lightning import teardown

    dtype = dtype or nemo.source_dtype(checkpoint)
    partial = to.with_name(f"{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    module, trainer = load(checkpoint, dtype)
    exporter = Exporter(str(checkpoint))
    exporter.dtype, exporter.nemo_config = dtype, module.config
    target = exporter.convert_state(module, exporter.init(dtype), module.config)
    target.tie_weights()  # where the configuration says so: the converter has put a new matrix in one place only
    for name, weight in target.named_parameters():
        if not weight.isfinite().all():
            raise runs.Failed(
                f"{name} of {checkpoint} is not finite in {str(dtype).removeprefix('torch.')}",
                "the training that left it failed, or, in fp16, a weight is beyond 65,504: convert.dtype=bf16 holds it",
            )
    target.save_pretrained(partial, safe_serialization=True)
    description = nemo.description_of(checkpoint)
    nemo.copy_description(description, partial)
    (partial / "config.json").write_text(json.dumps(nemo.hf_config(description, module.config, dtype), indent=2) + "\n")
    teardown(trainer, module)
    runs.put_in_place(partial, to)
    return dtype


def run(cfg: Recipe, run: runs.Run) -> None:
    """`convert.to=nemo`: import the teacher's folder or a random one. `convert.to=hf`: export the run's newest checkpoint."""
    platforms.prepare()
    if cfg.convert.to == "nemo":
        if cfg.convert.random:
            source, made = random_weights.write(cfg, run.folder / "hf"), {"hf": run.folder / "hf"}
        else:
            source, made = run.input(runs.local_weights(cfg.convert.source or cfg.model.path)), {}
        dtype = nemo.DTYPES[convert_plan.dtype(cfg, source)]
        generation = None
        if (source / "generation_config.json").is_file():
            from transformers import GenerationConfig

            generation = GenerationConfig.from_pretrained(str(source))
        tokenizer = nemo.tokenizer(source, run.folder / "tokenizer")
        module = nemo.module(cfg.model, runs.architecture(cfg.model), dtype, tokenizer, generation)
        import_hf(source, run.folder / "checkpoint", module, dtype)
        run.finish(
            outputs={"checkpoint": run.folder / "checkpoint", **made},
            next=runs.command(cfg, "prune", *runs.left_by("teacher.path", run.folder / "checkpoint", ("convert-import",))),
            dtype=str(dtype).removeprefix("torch."),
            **({hf_config.RANDOM: cfg.run.seed} if cfg.convert.random else {}),
        )
    else:
        source = run.input(convert_plan.checkpoint_of(cfg))
        wanted = nemo.DTYPES[convert_plan.DTYPES[cfg.convert.dtype]] if cfg.convert.dtype else None
        dtype = export_hf(source, run.folder / "hf", wanted)
        run.finish(
            outputs={"hf": run.folder / "hf"},
            next=runs.command(cfg, "quantize", *runs.left_by("export.source", run.folder / "hf", quantize_plan.SOURCES)),
            dtype=str(dtype).removeprefix("torch."),
        )
