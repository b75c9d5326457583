"""NeMo's distillation module with the teacher beside the student, watched while it trains and on held-out text.

What NeMo lacks: it runs the teacher in the type that its checkpoint was saved with, so that an fp32 distillation learns from
bf16 logits; here teacher and student compute in the same type. And see `watch`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from megatron.core import parallel_state
from nemo.collections.llm.modelopt.distill.model import DistillationGPTModel, _DistillationLossReduction
from nemo.lightning.megatron_parallel import MaskedTokenLossReduction
from torch import Tensor

from nemo_plugins.configs.schema import Recompute
from nemo_plugins.distillation import agreement
from nemo_plugins.distillation.criterion import vocabulary_group
from nemo_plugins.distillation.losses import kd_loss
from nemo_plugins.distillation.watch import Watch
from nemo_plugins.training import trainer

COPIED = ("bf16", "fp16", "params_dtype")


class LiveDistillation(DistillationGPTModel):
    """The student, its frozen teacher in one module; `watch` is what looks at both."""

    watch: Watch

    def configure_model(self) -> None:
        if hasattr(self, "module"):
            return
        for name in COPIED:  # the strategy has put the trainer's into the student's
            setattr(self._teacher_config, name, getattr(self.config, name))
        super().configure_model()
        _logits_survive_the_cross_entropy(self.module)
        if parallel_state.get_pipeline_model_parallel_world_size() == 1:  # NeMo passes no teacher's states on in validation
            _teacher_on_heldout_text(self.module)

    @property
    def training_loss_reduction(self) -> _DistillationLossReduction:
        if not self._training_loss_reduction:
            self._training_loss_reduction = _Training(self.core_module, self.watch)
        return self._training_loss_reduction

    @property
    def validation_loss_reduction(self) -> MaskedTokenLossReduction:
        if not self._validation_loss_reduction:
            self._validation_loss_reduction = _Heldout(self.core_module, self.watch)
        return self._validation_loss_reduction


class _Training(_DistillationLossReduction):
    def __init__(self, module, watch: Watch):
        super().__init__(module.compute_kd_loss)
        self.module, self.watch = module, watch

    def forward(self, batch, forward_out):
        if not self.watch.due:
            return super().forward(batch, forward_out)
        student, teacher = _logits(self.module)
        self.watch.look(student, batch, agreement.best(teacher, vocabulary_group()))
        loss, report = super().forward(batch, forward_out)
        self.watch.add_divergence(report["kd_logits_train_loss"], batch)
        return loss, report


class _Heldout(MaskedTokenLossReduction):
    def __init__(self, module, watch: Watch):
        super().__init__(validation_step=True)
        self.module, self.watch = module, watch

    def forward(self, batch, forward_out):
        if self.module._layers_to_loss and _output_layers(self.module)[1]._intermediate_output is not None:
            student, teacher = _logits(self.module)
            group = vocabulary_group()
            # the forward KL at temperature 1, whatever is trained: what several losses can be compared by
            divergence = kd_loss(student, teacher, group=group)
            self.watch.look(student, batch, agreement.best(teacher, group), divergence, teacher)
            for layers in self.module._layers_to_loss:
                for layer in layers:
                    layer._intermediate_output = None
        return super().forward(batch, forward_out)


def _output_layers(module):
    """Of student and teacher: the first pair of layers that NeMo's distillation compares."""
    return next(iter(module._layers_to_loss))


def _logits(module) -> tuple[Tensor, Tensor]:
    """Of student and teacher, `[s, b, v/tp]`, as the hooks on the output layers have kept them."""
    kept = (layer._intermediate_output for layer in _output_layers(module))
    student, teacher = (each[0] if isinstance(each, tuple) else each for each in kept)
    return student.detach(), teacher


def _logits_survive_the_cross_entropy(module) -> None:
    """Megatron's cross-entropy works in place where the logits are fp32 already: what the distillation keeps would be lost."""
    loss = module.compute_language_model_loss

    def of_a_copy(self, labels: Tensor, logits: Tensor) -> Tensor:
        return loss(labels, logits.clone() if logits.dtype is torch.float32 else logits)

    module.compute_language_model_loss = MethodType(of_a_copy, module)


def _teacher_on_heldout_text(module) -> None:
    """Let the module's forward pass run the teacher in evaluation, too, so that its logits are there."""
    forward = module.forward

    def with_teacher(self, *args, **kwargs):
        if not self.training:
            with torch.no_grad():
                self.teacher_model(*args, **kwargs)
        return forward(*args, **kwargs)

    module.forward = MethodType(with_teacher, module)


@contextmanager
def watched_by(watch: Watch, recompute: Recompute) -> Iterator[None]:
    """Within it, `llm.distill` makes a `LiveDistillation` whose student computes activations again as `recompute` says."""
    from nemo.collections.llm import api

    def make(*args, **kwargs) -> LiveDistillation:
        made = LiveDistillation(*args, **kwargs)
        made.watch = watch
        trainer.recompute(made.config, recompute)
        return made

    nemos, api.DistillationGPTModel = api.DistillationGPTModel, make
    try:
        yield
    finally:
        api.DistillationGPTModel = nemos
