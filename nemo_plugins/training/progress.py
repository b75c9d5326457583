"""What a training run tells: a progress bar with tokens/s and time left, `metrics.jsonl`, one line a logged step."""

from __future__ import annotations

import time

from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nemo_plugins import runs
from nemo_plugins.training.heldout import HeldoutLoss

NAMES = {"reduced_train_loss": "loss", "grad_norm": "grad_norm"}  # NeMo's → ours; in a distillation the loss is the KD loss
QUIET_INTERVAL = 20.0  # seconds between lines where the output is not a terminal


class Metrics(Callback):
    """Writes the metrics of each logged step and of each validation, and shows progress on rank 0.

    Args:
        run: the run folder that gets them.
        tokens_per_step: tokens of a global batch.
        log_every: steps between lines of `metrics.jsonl`; the first step is always written.
        title: what the bar says.
        heldout: the callback that has the losses of a validation.
    """

    def __init__(self, run: runs.Run, tokens_per_step: int, log_every: int, title: str, heldout: HeldoutLoss):
        self.run, self.tokens_per_step, self.log_every, self.title, self.heldout = (
            run,
            tokens_per_step,
            log_every,
            title,
            heldout,
        )
        self.console = runs.console(2)
        self.bar: Progress | None = None
        self.last: dict[str, float] = {}
        self.val_loss: tuple[int, float] | None = None  # (step, loss)
        self.validated_in = 0.0

    def on_train_start(self, trainer, pl_module) -> None:
        self.started = self.spoke = self.ticked = time.monotonic()
        self.start_step = trainer.global_step
        if self.run.is_writer and self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
            self.bar = Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self.console)
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=trainer.max_steps, completed=trainer.global_step, state="")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        now = time.monotonic()
        step, seconds = trainer.global_step, now - self.ticked - self.validated_in
        self.ticked, self.validated_in = now, 0.0
        values = {NAMES[k]: float(v) for k, v in trainer.callback_metrics.items() if k in NAMES}
        values["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        values["tokens_per_second"] = self.tokens_per_step / seconds
        self.last = values
        if self.run.is_writer and (step % self.log_every == 0 or step == 1 or step == trainer.max_steps):
            self.run.log_metrics(step=step, **values)
        self.show(trainer, step, now, values["loss"])

    def show(self, trainer, step: int, now: float, loss: float) -> None:
        if not self.run.is_writer:
            return
        rate = (step - self.start_step) / (now - self.started)
        state = f"loss {loss:.4f}  {rate * self.tokens_per_step:,.0f} tokens/s"
        if self.bar:
            self.bar.update(self.task, completed=step, state=state)
        elif now - self.spoke > QUIET_INTERVAL or step == trainer.max_steps:
            self.spoke = now
            left = (trainer.max_steps - step) / rate
            self.console.print(f"{self.title}: step {step}/{trainer.max_steps}  {state}  {left / 60:.1f} min left")

    def on_validation_start(self, trainer, pl_module) -> None:
        self.validation_started = time.monotonic()

    def on_validation_end(self, trainer, pl_module) -> None:
        self.val_loss = (trainer.global_step, self.heldout.mean())
        self.validated_in = time.monotonic() - self.validation_started
        if self.run.is_writer:
            self.run.log_metrics(step=trainer.global_step, val_loss=self.val_loss[1])

    def on_train_end(self, trainer, pl_module) -> None:
        self.close()

    def on_exception(self, trainer, pl_module, exception) -> None:
        self.close()

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None
