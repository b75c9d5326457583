"""Distillation from a recorded teacher: NeMo's own module and training, another loss.

What NeMo lacks: its modules pass no tensors on to the loss but labels and mask, and it has no loss of a recorded teacher.
"""

from __future__ import annotations

from functools import partial
from types import MethodType

import torch
from nemo.collections.llm.gpt.model.base import get_batch_on_this_cp_rank, gpt_data_step, gpt_forward_step
from torch import Tensor
from torch.utils.data import Dataset

from nemo_plugins import runs
from nemo_plugins.configs.schema import LossConfig, Recipe
from nemo_plugins.distillation import records
from nemo_plugins.distillation.distill import Distillation
from nemo_plugins.distillation.losses import kd_loss_cached
from nemo_plugins.distillation.record import header
from nemo_plugins.distillation.sampled import kd_loss_sampled
from nemo_plugins.distillation.watch import LogitsWatch
from nemo_plugins.training.vocabulary_parallel import vocabulary_group

OF_TEACHER = "teacher_"  # begins the names of what a batch holds of a recorded teacher


class CachedDistillation(Distillation):
    """Learns from what was recorded of the teacher.

    Raises:
        runs.UserError: the recording is of another teacher, text, order or loss.
    """

    teacher_is = "recorded"

    def __init__(self, cfg: Recipe, run: runs.Run):
        super().__init__(cfg, run)
        run.input(runs.record(cfg) / records.HEADER)  # the files beside it say what they are made of
        self.reader = records.Reader(runs.record(cfg), header(cfg, self.teacher, self.tokenizer))
        for warning in self.reader.warnings:
            runs.console(2).print(f"warning: the teacher was recorded with another version: {warning}")

    def data(self):
        """The texts' module, which serves its training samples with their records."""
        module = super().data()
        build = module.build

        def build_with_teacher(*args, **kwargs) -> None:
            build(*args, **kwargs)
            module._train_ds = WithTeacher(module._train_ds, self.reader)

        module.build = build_with_teacher
        return module

    def module(self):
        module = super().module()
        learn_from_files(module, self.loss, self.watch)
        return module


class WithTeacher(Dataset):
    """Training samples with what was recorded of each, `[s, …]`, under names that begin with `teacher_`."""

    def __init__(self, samples: Dataset, reader: records.Reader):
        self.samples, self.reader = samples, reader

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = self.samples[index]
        record = self.reader.sample(int(index), item["tokens"])
        return {**item, **{OF_TEACHER + name: value for name, value in record.items()}}


def learn_from_files(model, loss: LossConfig, watch: LogitsWatch) -> None:
    """Give NeMo's module of the student the loss of a recorded teacher; held-out text is judged by cross-entropy as ever.

    What it changes is of this object alone: the checkpoints are a plain model's.
    """
    record: dict[str, Tensor] = {}

    def data_step(dataloader_iter, *args, **kwargs) -> dict[str, Tensor | None]:
        batch = next(dataloader_iter)
        whole = batch[0] if isinstance(batch, tuple) and len(batch) == 3 else batch
        kept = {name.removeprefix(OF_TEACHER): value.cuda() for name, value in whole.items() if name.startswith(OF_TEACHER)}
        plain = {name: value for name, value in whole.items() if not name.startswith(OF_TEACHER)}
        return {**gpt_data_step(iter([plain]), *args, **kwargs), "teacher": get_batch_on_this_cp_rank(kept)}

    def forward_step(module, batch) -> Tensor:
        record.clear()
        record.update(batch["teacher"], labels=batch["labels"], loss_mask=batch["loss_mask"])
        return gpt_forward_step(module, batch)

    def of_teacher(module, labels: Tensor, logits: Tensor) -> Tensor:
        """`[b, s]` from labels `[b, s]` and logits `[s, b, v/tp]`."""
        copy = logits.clone() if logits.dtype is torch.float32 else logits  # Megatron's cross-entropy writes into fp32 logits
        if not module.training:
            return type(module).compute_language_model_loss(module, labels, copy)
        teacher = {name: value.transpose(0, 1) for name, value in record.items() if name not in ("labels", "loss_mask")}
        divergence_of = partial(kd_loss_cached, kind=loss.kind.value, skew=loss.skew) if loss.draws is None else kd_loss_sampled
        divergence = divergence_of(logits, **teacher, temperature=loss.temperature, group=vocabulary_group())
        if watch.due:
            watch.look(logits, record, teacher["indices"][..., 0], divergence.detach())
        mixed = loss.alpha * divergence.transpose(0, 1)
        if loss.alpha < 1:
            mixed = mixed + (1 - loss.alpha) * type(module).compute_language_model_loss(module, labels, copy)
        return mixed.contiguous()

    configure = model.configure_model

    def configure_model() -> None:
        if hasattr(model, "module"):
            return
        configure()
        model.module.compute_language_model_loss = MethodType(of_teacher, model.module)

    model.config.data_step_fn, model.config.forward_step_fn = data_step, forward_step
    model.configure_model = configure_model
