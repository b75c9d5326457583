"""A learning rate that follows how much a step teaches: LR · sqrt(T / BS), T its learned tokens (arXiv 2410.18565).

What NeMo lacks: its schedules know the number of a step alone; windows of dialogues hold very different numbers of answers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning.pytorch.callbacks import Callback
from megatron.core import parallel_state
from nemo.lightning._strategy_lib import _sync_from_last_pipeline_stage

from nemo_plugins.training.metric_sums import MetricSums


class AdaptiveRate(Callback):
    """Scales the learning rate of each update and puts it back.

    Args:
        tokens: BS, the learned tokens of a step at which the rate is the schedule's own.
        watch: has counted T when the optimizer's turn comes.
    """

    def __init__(self, tokens: int, watch: MetricSums):
        self.tokens, self.watch = tokens, watch

    def on_train_epoch_start(self, trainer, pl_module) -> None:  # with adapters there is no optimizer before
        optimizer = trainer.optimizers[0].mcore_optimizer
        optimizer.step = self.scaled(optimizer, optimizer.step)

    def scaled(self, optimizer, step: Callable) -> Callable:
        """Megatron's `step` at the scaled rate."""

        def scaled_step():
            scale = self.scale()
            rates = [group["lr"] for group in optimizer.param_groups]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * scale
            try:
                return step()
            finally:
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate

        return scaled_step

    def scale(self) -> float:
        """sqrt(T / BS) of the step, the same on every process."""
        sums = self.watch.sums
        device = torch.cuda.current_device()
        learned = torch.zeros((), dtype=torch.float64, device=device) if sums is None else sums[-1].clone()
        torch.distributed.all_reduce(learned, group=parallel_state.get_data_parallel_group())
        _sync_from_last_pipeline_stage(learned, broadcast=True)
        return (float(learned) / self.tokens) ** 0.5
