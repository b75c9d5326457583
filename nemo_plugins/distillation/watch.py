"""What a distillation tells beside its loss: divergence from the teacher, cross-entropy, agreement on the most likely token.

What NeMo lacks: it reports the training loss alone, and on held-out text it does not run the teacher at all.
"""

from __future__ import annotations

import torch
from megatron.core import parallel_state
from nemo.lightning._strategy_lib import _sync_from_last_pipeline_stage
from torch import Tensor, distributed

from nemo_plugins.distillation import agreement
from nemo_plugins.distillation.criterion import vocabulary_group


class Watch:
    """Sums over a step's micro-batches, or over those of a held-out batch, on this process.

    Attributes:
        due: whether anyone will read the step: looking costs a pass over the logits.
    """

    # the student's cross-entropy is the held-out loss itself
    heldout = {"kd": "val_kl", "agreement": "val_agreement", "teacher_ce": "teacher_val_loss"}

    def __init__(self) -> None:
        self.due = True
        self.sums: Tensor | None = None

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
        agrees = (agreement.best(logits.detach(), group) == teacher_best).float()
        each = [ce.new_zeros(ce.shape) if divergence is None else divergence, ce, agrees, torch.ones_like(ce)]
        if teacher is not None:
            each.append(agreement.cross_entropy(teacher, labels, group))
        self._add(torch.stack([(value.transpose(0, 1) * mask).sum() for value in each]))

    def add_divergence(self, mean: Tensor, batch: dict[str, Tensor]) -> None:
        """Add the divergence of the micro-batch that `look` has seen, its mean over the tokens."""
        total = mean.detach().reshape(()) * batch["loss_mask"].sum()
        self._add(torch.stack([total, *(total.new_zeros(3).unbind())]))

    def take(self) -> Tensor:
        """Sums of divergence, cross-entropy, agreement, tokens since the last call, `[4]` in fp32; the teacher's is a fifth."""
        sums, self.sums = self.sums, None
        return torch.zeros(4, device=torch.cuda.current_device()) if sums is None else sums.float()

    @staticmethod
    def means(sums: Tensor) -> dict[str, float]:
        """Means a token over all processes, from each one's `take`; empty where nobody has looked.

        Every process calls it and gets the same; of a pipeline only the last stage has looked.
        """
        sums = sums.clone()
        distributed.all_reduce(sums, group=parallel_state.get_data_parallel_group(with_context_parallel=True))
        _sync_from_last_pipeline_stage(sums, broadcast=True)
        kd, ce, agrees, tokens, *teacher = sums.tolist()
        totals = {"kd": kd, "ce": ce, "agreement": agrees, **dict(zip(("teacher_ce",), teacher, strict=False))}
        return {name: total / tokens for name, total in totals.items()} if tokens else {}

    def _add(self, sums: Tensor) -> None:
        self.sums = sums if self.sums is None else self.sums + sums
