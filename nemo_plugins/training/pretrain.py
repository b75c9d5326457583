"""Train a model from random weights with `llm.train`: how `tiny_pl` was made, and the from-scratch baseline of a student."""

from __future__ import annotations

from dataclasses import asdict

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.models import nemo
from nemo_plugins.planning import training_plan
from nemo_plugins.training import trainer
from nemo_plugins.training.fit import fit


def run(cfg: Recipe, run: runs.Run) -> None:
    """Pretrain `model` (or `pretrain.sizes` of it) and write a checkpoint and a summary."""
    here = platforms.prepare()
    from nemo.collections import llm

    architecture = runs.architecture(cfg.model).with_sizes(cfg.pretrain.sizes)
    folder = runs.resolve(cfg.model.path)
    tokenizer = nemo.tokenizer(folder, run.folder / "tokenizer")
    run.input(folder / "tokenizer.json")
    dtype = trainer.dtype(trainer.precision(cfg.platform, here))
    model = nemo.module(cfg.model, architecture, dtype, tokenizer)
    trainer.recompute(model.config, cfg.platform.recompute)

    def start(**parts) -> None:
        llm.train(model=model, tokenizer=tokenizer, **parts)

    flops = training_plan.flops_per_token(cfg.pretrain, architecture)
    done = fit(cfg, run, cfg.pretrain, "pretrain", tokenizer, start, flops, facts={"parameters": architecture.parameters()})
    run.finish(
        outputs=done.outputs,
        metrics={"loss_first": done.first["loss"], "loss_last": done.last["loss"], **done.metrics()},
        model={"parameters": architecture.parameters("all"), **asdict(architecture)},
        data=done.data,
    )
