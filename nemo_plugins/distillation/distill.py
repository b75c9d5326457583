"""Distil the pruned student from its teacher's logits with NeMo's `llm.distill`, or from what was recorded of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import LossConfig, Recipe, TeacherMode
from nemo_plugins.models import nemo
from nemo_plugins.planning import distill_plan, training_plan
from nemo_plugins.training.fit import fit

PAPER = (1.12, 0.89)  # first and last loss of Bielik-11B's distillation (arXiv 2603.11881)


def run(cfg: Recipe, run: runs.Run) -> None:
    """Train the student of the run towards the frozen teacher: beside it, or from what was recorded of it."""
    platforms.prepare()
    from nemo_plugins.distillation.watch import Watch

    teacher, student = run.input(runs.teacher(cfg)), run.input(runs.student(cfg))
    tokenizer = nemo.checkpoint_tokenizer(student)
    watch, small, big = Watch(), distill_plan.student(cfg), runs.architecture(cfg.model)
    beside = cfg.teacher.mode is TeacherMode.live
    start, wrap = (_live if beside else _cached)(cfg, run, teacher, student, tokenizer, watch)
    loss = cfg.distill.loss
    done = fit(
        cfg,
        run,
        cfg.distill,
        "distill",
        tokenizer,
        start,
        training_plan.flops_per_token(cfg.distill, small, big if beside else None),
        watch,
        wrap,
        facts={
            "teacher": f"{cfg.model.name}, {big.parameters():,} parameters, {'live' if beside else 'recorded'}",
            "student": f"{small.parameters():,} parameters",
            "loss": f"{loss.kind}, temperature {loss.temperature:g}, top_k {loss.top_k or 'all'}, alpha {loss.alpha:g}",
        },
        validate_first=True,
        paper=PAPER if cfg.model.name == "bielik11b" and loss == LossConfig() else None,
    )
    run.finish(
        outputs=done.outputs,
        next=runs.export_command(cfg, run.folder),
        metrics={
            "kd_loss_first": done.first["kd_loss"],
            "kd_loss_last": done.last["kd_loss"],
            "teacher_val_loss": teacher_loss(run),
            "val_loss_first": done.validated.get(0),
            **done.metrics(),
        },
        data=done.data,
    )


def teacher_loss(run: runs.Run) -> float | None:
    """The teacher's loss on the held-out windows of the run; None where it does not run on them."""
    return next((line["teacher_val_loss"] for line in run.read_metrics() if "teacher_val_loss" in line), None)


def _live(cfg: Recipe, run: runs.Run, teacher: Path, student: Path, tokenizer, watch) -> tuple[Callable, None]:
    """How to start `llm.distill`, with the teacher beside the student."""
    from nemo.collections import llm

    from nemo_plugins.distillation.criterion import criterion
    from nemo_plugins.distillation.live import watched_by

    def start(**parts) -> None:
        with watched_by(watch, cfg.platform.recompute), criterion(cfg.distill.loss):
            llm.distill(student_model_path=str(student), teacher_model_path=str(teacher), tokenizer=tokenizer, **parts)

    return start, None


def _cached(cfg: Recipe, run: runs.Run, teacher: Path, student: Path, tokenizer, watch) -> tuple[Callable, Callable]:
    """How to start `llm.train` on the student with the loss of a recorded teacher, and how to change its data.

    Raises:
        runs.UserError: the recording is of another teacher, text, order or loss.
    """
    from nemo import lightning as nl
    from nemo.collections import llm
    from nemo.lightning import io
    from nemo.lightning.ckpt_utils import ckpt_to_context_subdir

    from nemo_plugins.distillation import cached, record, records
    from nemo_plugins.training import trainer

    run.input(runs.record(cfg) / records.HEADER)  # the files beside it say what they are made of
    reader = records.Reader(runs.record(cfg), record.header(cfg, teacher, tokenizer))
    for warning in reader.warnings:
        runs.console(2).print(f"warning: the teacher was recorded with another version: {warning}")

    def start(*, resume, **parts) -> None:
        model = io.load_context(ckpt_to_context_subdir(str(student)), subpath="model")
        trainer.recompute(model.config, cfg.platform.recompute)
        cached.learn_from_files(model, cfg.distill.loss, watch)
        if resume.restore_config is None:
            resume.restore_config = nl.RestoreConfig(path=str(student))
        llm.train(model=model, tokenizer=tokenizer, resume=resume, **parts)

    return start, lambda data: cached.wrap(data, reader)
