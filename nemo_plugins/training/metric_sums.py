"""What is logged beside a loss: means over tokens or pairs, of each step and of the held-out samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from megatron.core import parallel_state
from nemo.lightning._strategy_lib import _sync_from_last_pipeline_stage
from torch import Tensor, distributed


class MetricSums:
    """Sums over the micro-batches of a step, or of a held-out batch, on this process.

    Args:
        names: of what is summed.
        heldout: name → what its mean on held-out samples is called; `val_loss` replaces the mean of the batches' means.

    Attributes:
        due: whether anyone will read the step: a subclass that has to compute what it sums can leave it.
    """

    dtype = torch.float64
    optional: tuple[str, ...] = ()  # names that every micro-batch has, or none

    def __init__(self, names: Sequence[str], heldout: Mapping[str, str]):
        self.names = tuple(names)
        self.heldout = dict(heldout)
        self.due = True
        self.sums: Tensor | None = None

    def add(self, values: Mapping[str, Tensor], count: Tensor) -> None:
        """Add a micro-batch: a sum for each name, over `count` tokens or pairs."""
        each = [values[name] for name in (*self.names, *self.optional) if name in values]
        sums = torch.stack([value.detach().to(self.dtype) for value in (*each, count)])
        self.sums = sums if self.sums is None else self.sums + sums

    def take(self) -> Tensor:
        """The sums since the last call and their count, `[names + 1]`."""
        sums, self.sums = self.sums, None
        if sums is not None:
            return sums
        return torch.zeros(len(self.names) + 1, dtype=self.dtype, device=torch.cuda.current_device())

    def means(self, sums: Tensor) -> dict[str, float]:
        """Means over all processes, from each one's `take`; empty where nothing counted.

        Every process calls it and gets the same; only a pipeline's last stage has the sums.
        """
        sums = sums.clone()
        distributed.all_reduce(sums, group=parallel_state.get_data_parallel_group(with_context_parallel=True))
        _sync_from_last_pipeline_stage(sums, broadcast=True)
        *totals, count = sums.tolist()
        names = (*self.names, *self.optional)[: len(totals)]
        return dict(zip(names, (total / count for total in totals), strict=True)) if count else {}
