"""Steps that must not reach the weights: a loss or gradient that is not finite, a loss that is a spike.

What NeMo lacks: Megatron raises on a gradient that is not a number, on one rank, with a traceback; nothing looks for spikes.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from nemo_plugins import runs
from nemo_plugins.configs.schema import BadStep

WINDOW, LEAST = 64, 8  # steps whose median a loss is held against, and how many of them it takes
MOST = 20  # own choice: so many skipped in a row are no accident


class Guard(Callback):
    """Looks at each step's loss and gradient norm before the optimizer does.

    Args:
        action: `stop` ends the stage before the update; `skip` leaves weights and moments as they are and goes on.
        spike: times the median of the last `WINDOW` losses that a loss may be; None: any.
        samples: of a step; with it the message names the samples of the training order.
        key: the stage's section of the configuration.

    Raises runs.Failed out of the training where it stops.
    """

    def __init__(self, action: BadStep, spike: float | None, samples: int, key: str):
        self.action = action
        self.spike = spike
        self.samples = samples
        self.key = key
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.skipped_in_a_row = 0
        self.skipped = False  # the step that has just been
        self.events: list[str] = []  # a sentence for each step that was skipped

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "skipped_in_a_row": self.skipped_in_a_row, "events": list(self.events)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = deque(state_dict["losses"], maxlen=WINDOW)
        self.skipped_in_a_row = int(state_dict["skipped_in_a_row"])
        self.events = list(state_dict["events"])

    def on_train_epoch_start(self, trainer, pl_module) -> None:  # with adapters there is no optimizer before
        optimizer = trainer.optimizers[0].mcore_optimizer
        optimizer.step = self.guarded(trainer, optimizer, optimizer.step)

    def guarded(self, trainer, optimizer, step: Callable) -> Callable:
        """Megatron's `step`, which returns (done, gradient norm, zeros), behind a look at loss and norm."""

        def guarded_step():
            loss = float(trainer.callback_metrics["reduced_train_loss"])
            optimizer.prepare_grads()
            norm = optimizer.get_grad_norm()
            why = self.agreed(self.reason(loss, float(norm)))
            self.skipped = bool(why)
            if not why:
                self.losses.append(loss)
                self.skipped_in_a_row = 0
                return step()
            self.skipped_in_a_row += 1
            self.refuse(trainer.global_step, why, loss, float(norm))
            return False, norm, None

        return guarded_step

    def reason(self, loss: float, norm: float) -> int:
        """0: a good step; 1: the loss is not finite; 2: the gradient is not; 3: a spike."""
        if not math.isfinite(loss):
            return 1
        if not math.isfinite(norm):
            return 2
        if self.spike is None or len(self.losses) < LEAST:
            return 0
        return 3 if loss > self.spike * statistics.median(self.losses) else 0

    def agreed(self, reason: int) -> int:
        """The gravest reason of any process: of a pipeline not all know the loss."""
        gravest = torch.tensor(reason, device=torch.cuda.current_device())
        torch.distributed.all_reduce(gravest, torch.distributed.ReduceOp.MAX)
        return int(gravest)

    def refuse(self, step: int, reason: int, loss: float, norm: float) -> None:
        """Say which step and samples; raise where the stage is to stop. `step` counts from 0."""
        what = {
            1: f"its loss is {loss}",
            2: f"its gradient is {norm} (loss {loss:.4f})",
            3: f"its loss {loss:.4f} is a spike (more than {self.spike:g} x the median of the steps before)"
            if self.spike
            else "",
        }[reason]
        where = f"step {step + 1}, samples {step * self.samples:,} to {(step + 1) * self.samples - 1:,} of the training order"
        if self.action is BadStep.stop:
            raise runs.Failed(
                f"{where}: {what}",
                "the weights are those before this step; the last checkpoint is whole",
                f"{self.key}.bad_step=skip goes on without it; a lower {self.key}.lr or {self.key}.clip_grad may prevent it",
            )
        if self.skipped_in_a_row >= MOST:
            raise runs.Failed(f"{where}: {what}", f"{MOST} steps in a row were skipped: this training does not go on by itself")
        self.events.append(f"{where}: skipped, {what}")
        if runs.rank() == 0:
            runs.console(2).print(self.events[-1])
