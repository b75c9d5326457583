"""A student that learns from a recorded teacher: NeMo's own module and training, another loss.

What NeMo lacks: its modules pass no tensors on to the loss but labels and mask, and it has no loss of a recorded teacher.
"""

from __future__ import annotations

from types import MethodType

import torch
from nemo.collections.llm.gpt.model.base import get_batch_on_this_cp_rank, gpt_data_step, gpt_forward_step
from torch import Tensor
from torch.utils.data import Dataset

from nemo_plugins.configs.schema import LossConfig
from nemo_plugins.distillation.criterion import vocabulary_group
from nemo_plugins.distillation.losses import kd_loss_cached
from nemo_plugins.distillation.records import Reader
from nemo_plugins.distillation.watch import Watch

RECORD = ("indices", "logprobs", "tail")


class WithTeacher(Dataset):
    """Training samples with what was recorded of each: `teacher_indices`, `teacher_logprobs` `[s, k]`, `teacher_tail` `[s]`."""

    def __init__(self, samples: Dataset, reader: Reader):
        self.samples, self.reader = samples, reader

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = self.samples[index]
        record = self.reader.sample(int(index), item["tokens"])
        return {**item, **{f"teacher_{name}": record[name] for name in RECORD}}


def wrap(data, reader: Reader) -> None:
    """Let a data module serve its training samples with their records."""
    build = data.build

    def build_with_teacher(*args, **kwargs) -> None:
        build(*args, **kwargs)
        data._train_ds = WithTeacher(data._train_ds, reader)

    data.build = build_with_teacher


def learn_from_files(model, loss: LossConfig, watch: Watch) -> None:
    """Give NeMo's module of the student the loss of a recorded teacher; held-out text is judged by cross-entropy as ever.

    What it changes is of this object alone: the checkpoints are a plain model's.
    """
    record: dict[str, Tensor] = {}

    def data_step(dataloader_iter, *args, **kwargs) -> dict[str, Tensor | None]:
        batch = next(dataloader_iter)
        whole = batch[0] if isinstance(batch, tuple) and len(batch) == 3 else batch
        kept = {name: whole[f"teacher_{name}"].cuda() for name in RECORD if f"teacher_{name}" in whole}
        plain = {name: value for name, value in whole.items() if not name.startswith("teacher_")}
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
        indices, logprobs, tail = (record[name].transpose(0, 1) for name in RECORD)
        divergence = kd_loss_cached(
            logits,
            indices,
            logprobs,
            tail,
            kind=loss.kind.value,
            temperature=loss.temperature,
            skew=loss.skew,
            group=vocabulary_group(),
        )
        if watch.due:
            watch.look(logits, record, indices[..., 0], divergence.detach())
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
