"""What a training run tells: a progress bar with tokens/s and time left, `metrics.jsonl`, one line a logged step."""

from __future__ import annotations

import time

import torch
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe, TrainConfig
from nemo_plugins.planning import devices
from nemo_plugins.training.bad_steps import Guard
from nemo_plugins.training.heldout import HeldoutLoss
from nemo_plugins.training.metric_sums import MetricSums

NAMES = {"reduced_train_loss": "loss", "grad_norm": "grad_norm"}  # NeMo's → ours: the loss that is trained
WATCHED = {"kd": "kd_loss"}  # a distillation's; the other names stay
QUIET_INTERVAL = 20.0  # seconds between lines where the output is not a terminal


class Metrics(Callback):
    """Writes the metrics of each logged step and of each validation, and shows progress on rank 0.

    Args:
        training: the `Training` that it tells about.
        heldout: the callback that has the losses of a validation.
        guard: the callback that knows whether the step was skipped.
    """

    def __init__(self, training, heldout: HeldoutLoss, guard: Guard):
        self.run: runs.Run = training.run
        self.train: TrainConfig = training.train
        self.title = training.key
        self.watch: MetricSums | None = training.watch
        self.tokens_per_step = training.tokens_per_step
        self.flops_per_token = training.flops_per_token()
        self.peak_flops = peak_flops(training.cfg)
        self.heldout = heldout
        self.guard = guard
        self.console = runs.console(2)
        self.bar: Progress | None = None
        self.last: dict[str, float] = {}
        self.validated: dict[int, float] = {
            line["step"]: line["val_loss"] for line in self.run.read_metrics() if line.get("val_loss") is not None
        }
        self.excluded_seconds = 0.0  # since the last step, no part of one: a validation, a rollout
        self.train_seconds = 0.0  # of all steps of the run so far, without the excluded ones

    def on_train_start(self, trainer, pl_module) -> None:
        self.started = self.spoke = self.ticked = time.monotonic()
        self.excluded_seconds = 0.0  # the validation before step 1
        self.start_step = trainer.global_step
        self.train_seconds = self.seconds_before(trainer.global_step)
        if self.run.is_writer and self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"))
            self.bar = Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self.console)
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=trainer.max_steps, completed=trainer.global_step, state="")

    def seconds_before(self, step: int) -> float:
        """Seconds that the steps up to this one took in the attempts before; those behind the last logged one as on average."""
        known = [line for line in self.run.read_metrics() if "train_seconds" in line]
        return known[-1]["train_seconds"] * step / known[-1]["step"] if known else 0.0

    def is_logged(self, step: int) -> bool:
        """Whether a step, from 1, gets a line."""
        return step % self.train.log_every == 0 or step in (1, self.train.max_steps)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if self.watch:
            self.watch.take()
            self.watch.due = self.is_logged(trainer.global_step + 1)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        now = time.monotonic()
        step, seconds = trainer.global_step, now - self.ticked - self.excluded_seconds
        self.ticked, self.excluded_seconds = now, 0.0
        self.train_seconds += seconds
        values = {NAMES[k]: float(v) for k, v in trainer.callback_metrics.items() if k in NAMES}
        values["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        values["step_seconds"] = seconds
        values["train_seconds"] = self.train_seconds
        values["tokens_per_second"] = self.tokens_per_step / seconds
        if self.peak_flops:
            values["mfu"] = values["tokens_per_second"] * self.flops_per_token / self.peak_flops
        if self.guard.skipped:
            values["skipped"] = 1
        if self.is_logged(step) or self.guard.skipped:
            if self.watch:
                values |= {WATCHED.get(key, key): value for key, value in self.watch.means(self.watch.take()).items()}
            values["peak_memory_bytes"] = peak_memory_bytes()
            self.write(trainer, step, values)
        self.last = values
        self.show(trainer, step, now, values)

    def write(self, trainer, step: int, values: dict[str, float]) -> None:
        """To `metrics.jsonl` and to whatever loggers the trainer has."""
        if self.run.is_writer:
            self.run.log_metrics(step=step, **values)
            for logger in trainer.loggers:
                logger.log_metrics(values, step)

    def show(self, trainer, step: int, now: float, values: dict[str, float]) -> None:
        if not self.run.is_writer:
            return
        rate = (step - self.start_step) / (now - self.started)
        state = f"loss {values['loss']:.4f}  {rate * self.tokens_per_step:,.0f} tokens/s"
        if self.bar:
            self.bar.update(self.task, completed=step, state=state)
        elif now - self.spoke > QUIET_INTERVAL or step == trainer.max_steps:
            self.spoke = now
            left = (trainer.max_steps - step) / rate
            self.console.print(f"{self.title}: step {step}/{trainer.max_steps}  {state}  {left / 60:.1f} min left")

    def on_validation_start(self, trainer, pl_module) -> None:
        self.validation_started = time.monotonic()

    def on_validation_end(self, trainer, pl_module) -> None:
        results = self.heldout.results()
        self.validated[trainer.global_step] = results["val_loss"]
        self.excluded_seconds += time.monotonic() - self.validation_started
        self.write(trainer, trainer.global_step, results)

    def on_train_end(self, trainer, pl_module) -> None:
        self.close()

    def on_exception(self, trainer, pl_module, exception) -> None:
        self.close()

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def peak_memory_bytes() -> int:
    """The most that this process has held: of its GPU's memory as torch's allocator counts it, else of the host's."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else runs.peak_memory_bytes()


def peak_flops(cfg: Recipe) -> float | None:
    """Dense bf16 operations a second of all GPUs of the job, from `conf/device/`; None on a CPU or an unknown GPU."""
    if not torch.cuda.is_available():
        return None
    device = devices.named(torch.cuda.get_device_name())
    return None if device is None else device.flops_per_second * cfg.platform.devices * cfg.platform.nodes
