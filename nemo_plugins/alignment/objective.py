"""Another loss for NeMo's own module: a sum over what counts, divided by how much counts in the whole step.

What NeMo lacks: its modules divide each micro-batch's loss by that micro-batch's tokens, so that a short answer pulls more
beside short ones than beside long ones, and the result depends on micro-batch size and data-parallel layout. Here the divisor
is the step's: Megatron's `calculate_per_token_loss`, with pairs or weighted tokens in the place of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from nemo.lightning.megatron_parallel import MaskedTokenLossReduction
from torch import Tensor

from nemo_plugins.training.metric_sums import MetricSums

Batch = Mapping[str, Tensor]
Measure = Callable[[Batch, Tensor], tuple[Tensor, Tensor, dict[str, Tensor]]]
ON_HOST = ("cu_seqlens_argmin", "max_seqlen")  # NeMo reads them without a copy from the device


class Objective(MaskedTokenLossReduction):
    """NeMo's reduction over micro-batches and data-parallel copies, of a loss that `measure` sums.

    Args:
        measure: from a batch and the log-probability of each label, fp32 `[rows, s]`, to the loss's sum, what counts (tokens
            or pairs) and the sums to watch.
        watch: gets the sums.
    """

    def __init__(self, measure: Measure, watch: MetricSums):
        super().__init__()
        self.measure, self.watch = measure, watch

    def forward(self, batch: Batch, nll: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        total, count, values = self.measure(batch, -nll.float())
        self.watch.add(values, count)
        count = count.detach().to(torch.int)
        return total, count, {"loss_sum_and_ub_size": torch.stack([total.detach().float(), count.float()])}


def install_objective(model, measure: Measure, watch: MetricSums) -> None:
    """Make NeMo's module minimise `measure`. What it changes is of this object alone: the checkpoints are a plain model's.

    A batch holds `tokens`, `labels`, `position_ids` `[b, s]` or `[b, 2, s]`, whose rows then go through the model as 2b, and
    whatever else `measure` wants; `attention_mask` (`platforms.attention`) and `cu_seqlens` where sequences are packed.
    """
    model.config.data_step_fn, model.config.forward_step_fn = data_step, forward_step
    model.config.calculate_per_token_loss = True
    # Micro-batches are as long as their longest, so pipeline stages say how long; Megatron refuses that beside the default
    # dispatcher of experts, which a dense model has none of.
    model.config.variable_seq_lengths, model.config.moe_token_dispatcher_type = True, "alltoall"
    model._training_loss_reduction = Objective(measure, watch)
    model._validation_loss_reduction = Objective(measure, watch)


def data_step(dataloader_iter, *_args, **_kwargs) -> dict[str, Tensor]:
    """The next micro-batch, on this process's device."""
    batch = next(dataloader_iter)
    batch = batch[0] if isinstance(batch, tuple) else batch
    return {name: value.cpu() if name in ON_HOST else value.cuda(non_blocking=True) for name, value in batch.items()}


def forward_step(module, batch: Batch) -> Tensor:
    """−log p of each label, `[rows, s]`, of a pipeline's last stage; what an earlier one hands on."""
    from nemo.collections.llm.gpt.model.base import get_packed_seq_params

    rows = {name: batch[name].flatten(0, -2) for name in ("tokens", "position_ids", "labels")}
    packed = {"packed_seq_params": get_packed_seq_params(batch)} if "cu_seqlens" in batch else {}
    return module(rows["tokens"], rows["position_ids"], batch.get("attention_mask"), labels=rows["labels"], **packed)
