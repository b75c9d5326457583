"""What an alignment stage tells beside its loss: means over tokens or pairs, of each step and of the held-out samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from megatron.core import parallel_state
from nemo.lightning._strategy_lib import _sync_from_last_pipeline_stage
from torch import Tensor, distributed


class Watch:
    """Sums over the micro-batches of a step, or of a held-out batch, on this process.

    Args:
        names: of what is summed.
        heldout: name → what its mean on held-out samples is called; `val_loss` replaces the mean of the batches' means.
    """

    due = True  # the sums are there anyway: looking costs nothing

    def __init__(self, names: Sequence[str], heldout: Mapping[str, str]):
        self.names, self.heldout = tuple(names), dict(heldout)
        self.sums: Tensor | None = None

    def add(self, values: Mapping[str, Tensor], count: Tensor) -> None:
        """Add a micro-batch: a sum for each name, over `count` tokens or pairs."""
        sums = torch.stack([*(values[name].detach().double() for name in self.names), count.detach().double()])
        self.sums = sums if self.sums is None else self.sums + sums

    def take(self) -> Tensor:
        """The sums since the last call and their count, fp64 `[names + 1]`."""
        sums, self.sums = self.sums, None
        return (
            torch.zeros(len(self.names) + 1, dtype=torch.float64, device=torch.cuda.current_device()) if sums is None else sums
        )

    def means(self, sums: Tensor) -> dict[str, float]:
        """Means over all processes; empty where nothing counted.

        Every process calls it and gets the same; only a pipeline's last stage has the sums.
        """
        sums = sums.clone()
        distributed.all_reduce(sums, group=parallel_state.get_data_parallel_group())
        _sync_from_last_pipeline_stage(sums, broadcast=True)
        *totals, count = sums.tolist()
        return dict(zip(self.names, (total / count for total in totals), strict=True)) if count else {}
