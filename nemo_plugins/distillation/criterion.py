"""Our distillation loss as the criterion of NeMo's distillation.

What NeMo lacks: its configuration reaches neither temperature nor another divergence, its loss holds several fp32 copies of the
logits, and its balancer rescales the terms while training, so that no α stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from megatron.core import parallel_state
from modelopt.torch.distill import DistillationLossBalancer
from modelopt.torch.distill.loss_balancers import STUDENT_LOSS_KEY
from nemo.collections.llm.modelopt.distill.loss import BaseLoss
from torch import Tensor
from torch.distributed import ProcessGroup

from nemo_plugins.configs.schema import LossConfig
from nemo_plugins.distillation.losses import kd_loss


def vocabulary_group() -> ProcessGroup | None:
    """The processes over which the vocabulary is split; None where it is whole."""
    group = parallel_state.get_tensor_model_parallel_group()
    return group if group.size() > 1 else None


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


@contextmanager
def criterion(loss: LossConfig) -> Iterator[None]:
    """Within it, NeMo's distillation takes this loss for the logits; its intermediate losses stay as it has them."""
    from nemo.collections.llm.modelopt.distill import model

    load = model.load_distillation_config

    def with_ours(config_path, student, teacher):
        found = load(config_path, student, teacher)
        if found.criterion:  # on a pipeline only the last stage has logits
            found.criterion[tuple(found.logit_layers)] = LogitsLoss(student, loss)
        found.skip_lm_loss = loss.alpha == 1
        found.loss_balancer = FixedMix(loss.alpha)
        return found

    model.load_distillation_config = with_ours
    try:
        yield
    finally:
        model.load_distillation_config = load
