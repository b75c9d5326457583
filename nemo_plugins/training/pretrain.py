"""Train a model with `llm.train`: from random weights, as `tiny_pl` was made and as a student's baseline, or the teacher on."""

from __future__ import annotations

from dataclasses import asdict

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.models import nemo
from nemo_plugins.planning import training_plan
from nemo_plugins.training import trainer
from nemo_plugins.training.fit import fit


def run(cfg: Recipe, run: runs.Run) -> None:
    """Pretrain `model` (or `pretrain.sizes` of it, or on from its weights) and write a checkpoint and a summary."""
    here = platforms.prepare()
    from nemo import lightning as nl
    from nemo.collections import llm
    from nemo.lightning import io
    from nemo.lightning.ckpt_utils import ckpt_to_context_subdir

    architecture = runs.architecture(cfg.model).with_sizes(cfg.pretrain.sizes)
    teacher = run.input(runs.uncorrected_teacher(cfg)) if cfg.pretrain.from_teacher else None
    if teacher:
        tokenizer = nemo.checkpoint_tokenizer(teacher)
        model = io.load_context(ckpt_to_context_subdir(str(teacher)), subpath="model")
    else:
        folder = runs.resolve(cfg.model.path)
        tokenizer = nemo.tokenizer(folder, run.folder / "tokenizer")
        run.input(folder / "tokenizer.json")
        dtype = trainer.dtype(trainer.precision(cfg.platform, here))
        model = nemo.module(cfg.model, architecture, dtype, tokenizer)
    trainer.recompute(model.config, cfg.platform.recompute)

    def start(*, resume, **parts) -> None:
        if teacher and resume.restore_config is None:
            resume.restore_config = nl.RestoreConfig(path=str(teacher))
        llm.train(model=model, tokenizer=tokenizer, resume=resume, **parts)

    flops = training_plan.flops_per_token(cfg.pretrain, architecture)
    done = fit(cfg, run, cfg.pretrain, "pretrain", tokenizer, start, flops, facts={"parameters": architecture.parameters()})
    run.finish(
        outputs=done.outputs,
        next=_next(cfg, run),
        metrics={"loss_first": done.first["loss"], "loss_last": done.last["loss"], **done.metrics()},
        model={"parameters": architecture.parameters("all"), **asdict(architecture)},
        data=done.data,
    )


def _next(cfg: Recipe, run: runs.Run) -> str:
    """A corrected teacher is pruned; a model that was trained from the start is exported."""
    left = run.folder / "checkpoint"
    if cfg.pretrain.from_teacher:
        return runs.command(cfg, "prune", *runs.left_by("teacher.path", left, (runs.CORRECTED,)))
    return runs.export_command(cfg, run.folder)
