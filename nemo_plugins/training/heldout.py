"""The held-out loss as the plain mean over its batches, one for each held-out text.

What NeMo lacks: it leaves the epoch's `val_loss` to Lightning's running mean, which over NeMo's iterator does not count every
batch once; on four equal batches that gave 3.347 where their mean is 3.385. And it knows one held-out text only.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch.callbacks import Callback
from nemo.lightning._strategy_lib import _sync_from_last_pipeline_stage
from torch import Tensor

from nemo_plugins.training.metric_sums import MetricSums


class HeldoutLoss(Callback):
    """Collects the loss of each validation batch (a mean over its tokens and the data-parallel copies), nats a token.

    Args:
        sets: batches of each held-out text, in the order in which they come; None: all are of one text.
        watch: what a batch came to besides; where it has a `val_loss`, that is the mean over all that counts, and stands.
    """

    def __init__(self, sets: Mapping[str, int] | None = None, watch: MetricSums | None = None) -> None:
        self.sets, self.watch = dict(sets or {}), watch
        self.losses: list[float] = []
        self.seen: list[Tensor] = []

    def on_validation_start(self, trainer, pl_module) -> None:
        self.losses, self.seen = [], []
        if self.watch:
            self.watch.take()

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.losses.append(float(outputs))
        if self.watch:
            self.seen.append(self.watch.take())

    def mean(self, part: slice = slice(None)) -> float:
        """Mean of the last validation. Every rank calls it and gets the same; only a pipeline's last stage has the losses."""
        losses = self.losses[part]
        loss = torch.tensor(sum(losses) / len(losses), device=torch.cuda.current_device())
        _sync_from_last_pipeline_stage(loss, broadcast=True)
        return float(loss)

    def results(self) -> dict[str, float]:
        """Means of the last validation by name: `val_loss`, and in a distillation `val_kl` and `val_agreement`.

        The first text's names stand alone, another's end in its own: `val_loss_en`. Every rank calls it.
        """
        means: dict[str, float] = {}
        start = 0
        for place, (name, batches) in enumerate((self.sets or {"": len(self.losses)}).items()):
            part, start = slice(start, start + batches), start + batches
            of = {"val_loss": self.mean(part)}
            if self.watch:
                names = self.watch.heldout
                of |= {names[key]: value for key, value in self.watch.means(sum(self.seen[part])).items() if key in names}
            means |= {f"{key}_{name}" if place else key: value for key, value in of.items()}
        return means
