"""Distil the pruned student from its teacher's logits with NeMo's `llm.distill`.

What NeMo lacks: it runs the teacher in the type that its checkpoint was saved with, so that an fp32 distillation learns from
bf16 logits. Here teacher and student compute in the same type.
"""

from __future__ import annotations

from contextlib import contextmanager

from nemo_plugins import platforms, runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.models import nemo
from nemo_plugins.training.fit import fit


@contextmanager
def one_precision():
    """Within it, `llm.distill` builds the teacher in the trainer's precision."""
    from nemo.collections.llm import api

    nemos = api.DistillationGPTModel

    class OnePrecision(nemos):
        def configure_model(self) -> None:
            if not hasattr(self, "module"):
                for name in ("bf16", "fp16", "params_dtype"):  # the strategy has put the trainer's into the student's
                    setattr(self._teacher_config, name, getattr(self.config, name))
            super().configure_model()

    api.DistillationGPTModel = OnePrecision
    try:
        yield
    finally:
        api.DistillationGPTModel = nemos


def run(cfg: Recipe, run: runs.Run) -> None:
    """Train the student of the run towards the frozen teacher: forward KL over the whole vocabulary, no cross-entropy."""
    platforms.prepare()
    from nemo.collections import llm

    teacher, student = run.input(runs.teacher(cfg)), run.input(runs.student(cfg))
    tokenizer = nemo.checkpoint_tokenizer(student)

    def start(**parts) -> None:
        with one_precision():
            llm.distill(student_model_path=str(student), teacher_model_path=str(teacher), tokenizer=tokenizer, **parts)

    done = fit(cfg, run, cfg.distill, "distill", tokenizer, start)
    run.finish(
        outputs={"checkpoint": done.checkpoint},
        next=runs.command(cfg, "convert", "convert.to=hf"),
        metrics={
            "kd_loss_first": done.first["loss"],
            "kd_loss_last": done.last["loss"],
            "val_loss": done.val_loss,
            "tokens_per_second": done.last["tokens_per_second"],
        },
        data=done.data,
    )
