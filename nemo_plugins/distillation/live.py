"""Distillation with the teacher beside the student: NeMo's `llm.distill` with our loss on the logits.

What NeMo lacks: its configuration reaches neither temperature nor another divergence, its loss holds several fp32 copies of the
logits, and its balancer rescales the terms while training, so that no α stays what it was. And it runs the teacher in the type
that its checkpoint was saved with, so that an fp32 distillation learns from bf16 logits; here both compute in the same type.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any
from unittest.mock import patch

import torch
from megatron.core import parallel_state
from modelopt.torch.distill import DistillationLossBalancer
from modelopt.torch.distill.loss_balancers import STUDENT_LOSS_KEY
from nemo.collections import llm
from nemo.collections.llm import api
from nemo.collections.llm.modelopt.distill import model as nemo_distillation
from nemo.collections.llm.modelopt.distill.loss import BaseLoss
from nemo.collections.llm.modelopt.distill.model import (
    DistillationGPTModel,
    _DistillationLossReduction,
    load_distillation_config,
)
from nemo.lightning.megatron_parallel import MaskedTokenLossReduction
from torch import Tensor

from nemo_plugins import runs
from nemo_plugins.alignment import policy
from nemo_plugins.configs.schema import LossConfig, Recipe
from nemo_plugins.distillation.dialogues import Dialogues
from nemo_plugins.distillation.distill import Distillation
from nemo_plugins.distillation.losses import kd_loss, masked_sum
from nemo_plugins.distillation.watch import LogitsWatch
from nemo_plugins.planning import work
from nemo_plugins.training import trainer
from nemo_plugins.training.training import Training
from nemo_plugins.training.vocabulary_parallel import best, vocabulary_group

COPIED = ("bf16", "fp16", "params_dtype")


class LiveDistillation(Distillation):
    """The teacher runs beside the student, on text and, where `distill.chats` names some, on dialogues.

    Attributes:
        dialogues: that it learns from or is measured on; None: on text alone.
    """

    teacher_is = "live"
    dialogues: Dialogues | None = None

    def __init__(self, cfg: Recipe, run: runs.Run):
        super().__init__(cfg, run)
        if cfg.distill.chats or cfg.distill.chats_heldout:
            description, rows = run.folder / "tokenizer", self.model.vocab_size
            self.tokenizer, template = policy.tokenizer(runs.student(cfg), description, rows, cfg.chat.template)
            self.dialogues = Dialogues(cfg, run, template)
            self.tokens_per_step *= self.dialogues.fill
            self.watch.heldout["ce"] = "val_loss"  # of dialogues the mean over batches is none over tokens

    def data(self):
        module = super().data()
        if self.dialogues:
            self.dialogues.add(module)
            self.counts |= self.dialogues.counts
        return module

    def facts(self) -> dict:
        return super().facts() | (self.dialogues.facts() if self.dialogues else {})

    def metrics(self, first, last, validated) -> dict:
        measured = [line for line in self.run.read_metrics() if "val_loss_chats" in line]
        of_dialogues = {key: value for key, value in measured[-1].items() if key.endswith("_chats")} if measured else {}
        return super().metrics(first, last, validated) | of_dialogues

    def summary(self) -> dict:
        return {"data": {**self.counts, **({"rows": self.dialogues.rows} if self.dialogues else {})}}

    def flops_per_token(self) -> float:
        return work.flops_per_token(self.train, self.model, runs.architecture(self.cfg.model))

    def start(self, **parts) -> None:
        distill(self, self.teacher, self.both, parts)

    def both(self, *args, **kwargs) -> TeacherAndStudent:
        """NeMo's module of both models."""
        module = TeacherAndStudent(*args, **kwargs)
        module.logits_loss = self.loss
        module.watch = self.watch
        module.config.calculate_per_token_loss = bool(self.cfg.distill.chats)
        return module


def distill(training: Training, teacher: Path, both: Callable[..., TeacherAndStudent], parts: dict[str, Any]) -> None:
    """NeMo's `llm.distill` of `training.source` towards the checkpoint `teacher`.

    Args:
        both: makes NeMo's module of both models from the arguments of its `DistillationGPTModel`.
        parts: `data`, `trainer`, `optim`, `log` and `resume`.
    """

    def made(*args, **kwargs) -> TeacherAndStudent:
        module = both(*args, **kwargs)
        trainer.recompute(module.config, training.cfg.platform.recompute)
        return module

    with patch.object(api, "DistillationGPTModel", made):  # what `llm.distill` makes
        student = str(training.source)
        llm.distill(student_model_path=student, teacher_model_path=str(teacher), tokenizer=training.tokenizer, **parts)


class LogitsLoss(BaseLoss):
    """`kd_loss` of the output logits `[s, b, v/tp]`, as NeMo calls a criterion."""

    def __init__(self, model_config, loss: LossConfig):
        super().__init__(model_config)
        self.loss = loss

    def forward(self, predictions: Tensor, targets: Tensor):
        """Returns: loss of each token `[b, s]`, whole on every tensor-parallel rank, with NeMo's two flags that say so."""
        predictions, targets = self.pre_forward(predictions, targets)
        loss = kd_loss(
            predictions,
            targets,
            kind=self.loss.kind.value,
            temperature=self.loss.temperature,
            top_k=self.loss.top_k,
            skew=self.loss.skew,
            group=vocabulary_group(),
        )
        return self.post_forward(loss)


class FixedMix(DistillationLossBalancer):
    """α · (KD + mean of the intermediate losses, if any) + (1 − α) · cross-entropy; α stays what it is."""

    def __init__(self, alpha: float):
        super().__init__()
        self.alpha = alpha

    def forward(self, loss_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars by name, as NeMo's reduction reads them."""
        cross_entropy = loss_dict.pop(STUDENT_LOSS_KEY)
        [logits_key] = [key for key in loss_dict if key.startswith(LogitsLoss.__name__)]
        logits = loss_dict.pop(logits_key)
        intermediate = sum(loss_dict.values()) / len(loss_dict) if loss_dict else torch.zeros_like(logits)
        total = self.alpha * (logits + intermediate)
        if self.alpha < 1:
            total = total + (1 - self.alpha) * cross_entropy
        return {"kd_loss": total, "logits_loss": logits, "intermediate_loss": intermediate}


class TeacherAndStudent(DistillationGPTModel):
    """The student, and its frozen teacher in the same module; `watch` looks at the logits of both."""

    logits_loss: LossConfig
    watch: LogitsWatch
    _training_loss_reduction: _DistillationLossReduction | None
    _validation_loss_reduction: MaskedTokenLossReduction | None

    def configure_model(self) -> None:
        if hasattr(self, "module"):
            return
        for name in COPIED:  # the strategy has put the trainer's into the student's
            setattr(self._teacher_config, name, getattr(self.config, name))
        with patch.object(nemo_distillation, "load_distillation_config", self.distillation_config):
            super().configure_model()
        _logits_survive_the_cross_entropy(self.module)
        if parallel_state.get_pipeline_model_parallel_world_size() == 1:  # NeMo passes no teacher's states on in validation
            _teacher_on_heldout_text(self.module)

    def distillation_config(self, path, student, teacher):
        """NeMo's configuration with our loss for the logits; its intermediate losses stay as it has them."""
        config = load_distillation_config(path, student, teacher)
        if config.criterion:  # on a pipeline only the last stage has logits
            config.criterion[tuple(config.logit_layers)] = LogitsLoss(student, self.logits_loss)
        config.skip_lm_loss = self.logits_loss.alpha == 1
        config.loss_balancer = FixedMix(self.logits_loss.alpha)
        return config

    @property
    def training_loss_reduction(self) -> _DistillationLossReduction:
        if not self._training_loss_reduction:
            kind = _CountedLoss if self.config.calculate_per_token_loss else _TrainingLoss
            self._training_loss_reduction = kind(self.core_module, self.watch)
        return self._training_loss_reduction

    @property
    def validation_loss_reduction(self) -> MaskedTokenLossReduction:
        if not self._validation_loss_reduction:
            self._validation_loss_reduction = _HeldoutTextLoss(self.core_module, self.watch)
        return self._validation_loss_reduction


class _TrainingLoss(_DistillationLossReduction):
    def __init__(self, module, watch: LogitsWatch):
        super().__init__(module.compute_kd_loss)
        self.module, self.watch = module, watch

    def forward(self, batch, forward_out):
        self.look(batch)
        loss, report = super().forward(batch, forward_out)
        if self.watch.due:
            self.watch.add_divergence(report["kd_logits_train_loss"] * batch["loss_mask"].sum())
        return loss, report

    def look(self, batch) -> None:
        """What is watched of the logits, before the loss lets go of them."""
        if self.watch.due:
            student, teacher = logits(self.module)
            self.watch.look(student.detach(), batch, best(teacher, vocabulary_group()))


class _CountedLoss(_TrainingLoss):
    """The mean over the tokens of the whole step that count.

    NeMo's divides each micro-batch by its own: a few answers would pull as much as a window of text.
    """

    def forward(self, batch, forward_out):
        self.look(batch)
        mask = batch["loss_mask"]
        cross_entropy, count = masked_sum(forward_out, mask)

        def summed(loss) -> Tensor:
            of_tokens, *_flags = loss  # as `LogitsLoss` gives it
            return masked_sum(of_tokens, mask)[0]

        losses = self._distillation_loss_fn(student_loss=cross_entropy, loss_reduction_fn=summed)
        if self.watch.due:
            self.watch.add_divergence(losses["logits_loss"])
        total = losses["kd_loss"]
        return total, count.int(), {"loss_sum_and_ub_size": torch.stack([total.detach().float(), count.float()])}


class _HeldoutTextLoss(MaskedTokenLossReduction):
    def __init__(self, module, watch: LogitsWatch):
        super().__init__(validation_step=True)
        self.module, self.watch = module, watch

    def forward(self, batch, forward_out):
        if self.module._layers_to_loss and _output_layers(self.module)[1]._intermediate_output is not None:
            student, teacher = logits(self.module)
            group = vocabulary_group()
            # the forward KL at temperature 1, whatever is trained: what several losses can be compared by
            divergence = kd_loss(student, teacher, group=group)
            self.watch.look(student, batch, best(teacher, group), divergence, teacher)
            forget(self.module)
        return super().forward(batch, forward_out)


def _output_layers(module):
    """Of student and teacher: the first pair of layers that NeMo's distillation compares."""
    return next(iter(module._layers_to_loss))


def logits(module) -> tuple[Tensor, Tensor]:
    """Of student and teacher, `[s, b, v/tp]`, as the hooks on the output layers have kept them; the student's with gradient."""
    kept = (layer._intermediate_output for layer in _output_layers(module))
    student, teacher = (each[0] if isinstance(each, tuple) else each for each in kept)
    return student, teacher


def forget(module) -> None:
    """Let go of what the hooks have kept, which ModelOpt's own loss does."""
    for layers in module._layers_to_loss:
        for layer in layers:
            layer._intermediate_output = None


def _logits_survive_the_cross_entropy(module) -> None:
    """Megatron's cross-entropy works in place where the logits are fp32 already: what the distillation keeps would be lost."""
    loss = module.compute_language_model_loss

    def of_a_copy(self, labels: Tensor, logits: Tensor) -> Tensor:
        return loss(labels, logits.clone() if logits.dtype is torch.float32 else logits)

    module.compute_language_model_loss = MethodType(of_a_copy, module)


def _teacher_on_heldout_text(module) -> None:
    """Let the module's forward pass run the teacher in validation, too, so that its logits are there."""
    forward = module.forward

    def with_teacher(self, *args, **kwargs):
        if not self.training and kwargs.get("labels") is not None:  # a student that speaks has none
            with torch.no_grad():
                self.teacher_model(*args, **kwargs)
        return forward(*args, **kwargs)

    module.forward = MethodType(with_teacher, module)
