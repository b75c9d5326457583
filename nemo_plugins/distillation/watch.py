"""What a distillation tells beside its loss: divergence from the teacher, cross-entropy, agreement on the most likely token.

What NeMo lacks: it reports the training loss alone, and on held-out text it does not run the teacher at all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nemo_plugins.distillation import agreement
from nemo_plugins.training.metric_sums import MetricSums
from nemo_plugins.training.vocabulary_parallel import best, vocabulary_group


class LogitsWatch(MetricSums):
    """Looks at logits where the step is `due`: it costs a pass over them."""

    dtype = torch.float32
    optional = ("teacher_ce",)

    def __init__(self) -> None:
        # the student's cross-entropy is the held-out loss itself
        heldout = {"kd": "val_kl", "agreement": "val_agreement", "teacher_ce": "teacher_val_loss"}
        super().__init__(("kd", "ce", "agreement"), heldout)

    def look(
        self,
        logits: Tensor,
        batch: dict[str, Tensor],
        teacher_best: Tensor,
        divergence: Tensor | None = None,
        teacher: Tensor | None = None,
    ) -> None:
        """Add a micro-batch.

        Args:
            logits: the student's, `[s, b, v/tp]`.
            batch: `labels` and `loss_mask`, `[b, s]`.
            teacher_best: the teacher's most likely tokens, `[s, b]`.
            divergence: of each token, `[s, b]`; where the training computes it, `add_divergence` takes it from there.
            teacher: its logits, `[s, b, v/tp]`, where its own cross-entropy is to be known; of every micro-batch or of none.
        """
        group, mask = vocabulary_group(), batch["loss_mask"].float()
        labels = batch["labels"].transpose(0, 1)
        ce = agreement.cross_entropy(logits.detach(), labels, group)
        agrees = (best(logits.detach(), group) == teacher_best).float()
        each = {"kd": torch.zeros_like(ce) if divergence is None else divergence, "ce": ce, "agreement": agrees}
        if teacher is not None:
            each["teacher_ce"] = agreement.cross_entropy(teacher, labels, group)
        sums = {name: (value.transpose(0, 1) * mask).sum() for name, value in each.items()}
        self.add(sums, (torch.ones_like(ce).transpose(0, 1) * mask).sum())

    def add_divergence(self, total: Tensor) -> None:
        """Add the divergence of the micro-batch that `look` has seen, its sum over the tokens."""
        total = total.detach().reshape(())
        zero = torch.zeros_like(total)
        self.add({"kd": total, "ce": zero, "agreement": zero}, zero)
