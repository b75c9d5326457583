"""Checkpoints of a training run: written beside, renamed when whole, the newest one resumes.

What NeMo lacks: its `ModelCheckpoint` marks a half-written checkpoint and then refuses to resume at all if that was the newest
one, and writes every checkpoint twice so that one of them ends in `-last`. Here a folder that is there is whole.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import distributed

from nemo_plugins import runs
from nemo_plugins.configs.schema import TrainConfig
from nemo_plugins.training.stop_requests import StopRequests, signals_blocked

STEP = re.compile(r"step=(\d+)")


def complete(folder: Path) -> list[tuple[int, Path]]:
    """Whole checkpoints under `folder` as (step, path), oldest first."""
    folders = ((STEP.fullmatch(path.name), path) for path in folder.glob("step=*"))
    return sorted((int(match[1]), path) for match, path in folders if match)


def newest(folder: Path) -> tuple[int, Path] | None:
    """The checkpoint to resume from, or None."""
    return next(reversed(complete(folder)), None)


def shares_optimizer(checkpoint: Path) -> bool:
    """Whether the optimizer's state in a checkpoint is in shares: Megatron's distributed optimizer wrote it."""
    from megatron.core.dist_checkpointing import load_content_metadata

    return "distrib_optim_sharding_type" in load_content_metadata(str(checkpoint / "weights"))


def save_in_this_process() -> None:
    """Let what saves, none of it asynchronously, hand over its results within this process.

    Megatron's own queue is another process, which takes seconds to start, and some 300 MB.
    """
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    filesystem_async._results_queue = queue.SimpleQueue()


def save(trainer, path: Path, weights_only: bool) -> None:
    """Write model, optimizer and data position (or the weights alone) with NeMo's context to `path`, whole or not at all.

    Called by every rank, while training runs: afterwards NeMo wraps the model once less and names its tensors otherwise.
    """
    from nemo.lightning.io.pl import TrainerContext

    partial = path.with_name(f"{path.name}.partial")
    if trainer.is_global_zero:
        shutil.rmtree(partial, ignore_errors=True)
    trainer.strategy.barrier("checkpoint folder is clear")
    save_in_this_process()
    with signals_blocked():
        trainer.save_checkpoint(partial, weights_only)
    if trainer.is_global_zero:
        TrainerContext.from_trainer(trainer).io_dump(partial / "context", yaml_attrs=["model"])
    trainer.strategy.barrier("checkpoint is written")
    if trainer.is_global_zero:
        runs.put_in_place(partial, path)
    trainer.strategy.barrier("checkpoint is in place")


def clear(folder: Path) -> None:
    """Remove what a killed job left half-written or half-removed."""
    for leftover in (*folder.glob("step=*.partial"), *folder.glob("step=*.discarded")):
        shutil.rmtree(leftover)


def best(folder: Path, validated: Mapping[int, float]) -> int | None:
    """The step of the checkpoint with the lowest held-out loss, of those measured at their step; the earlier of equals."""
    measured = [(validated[step], step) for step, _ in complete(folder) if step in validated]
    return min(measured)[1] if measured else None


class StepCheckpoint(Checkpoint):
    """Saves every `train.checkpoint_every` steps, every `train.checkpoint_minutes`, at the end, and when asked to stop.

    Args:
        folder: gets `step=<step>`; the newest `train.keep_checkpoints` and the best one stay.
        final: gets the weights alone of the last step, before that step's checkpoint: where the latter is, so is the former.
        stops: says when to stop.
        validated: step → held-out loss, as measured so far.

    Raises runs.Stopped out of the training once the checkpoint is written.
    """

    last_model_path = ""  # NeMo asks for it

    def __init__(self, train: TrainConfig, folder: Path, final: Path, stops: StopRequests, validated: Mapping[int, float]):
        self.train = train
        self.folder = folder
        self.final = final
        self.stops = stops
        self.validated = validated
        self.saved_at = time.monotonic()

    def on_train_start(self, trainer, pl_module) -> None:
        self.stops.take()

    # At the start of the next batch rather than at the end of this one: only then has Lightning counted the batch as done
    # (else a resumed run validates a step late), and the validation that is due has run and is in `metrics.jsonl`.
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        stop, late = self.agreed()
        if trainer.global_step and (trainer.global_step % self.train.checkpoint_every == 0 or stop or late):
            self.write(trainer)
        if stop:
            raise runs.Stopped(self.stops.why or "another process of the job was asked to")

    def on_train_end(self, trainer, pl_module) -> None:
        self.write(trainer)

    def agreed(self) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether rank 0's clock says that a checkpoint is due."""
        minutes = self.train.checkpoint_minutes
        late = minutes is not None and time.monotonic() - self.saved_at > 60 * minutes
        flags = [bool(self.stops.asked()), late and distributed.get_rank() == 0]
        flags = torch.tensor(flags, dtype=torch.int, device=torch.cuda.current_device())
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        stop, due = flags.tolist()
        return bool(stop), bool(due)

    def write(self, trainer) -> None:
        path = self.folder / f"step={trainer.global_step:07d}"
        if path.exists():  # the one that this run resumed from
            return
        if trainer.global_step == trainer.max_steps:
            save(trainer, self.final, weights_only=True)
        save(trainer, path, weights_only=False)
        self.saved_at = time.monotonic()
        if trainer.is_global_zero:
            self.discard()

    def discard(self) -> None:
        """Remove all but those to keep."""
        kept = {step for step, _ in complete(self.folder)[-self.train.keep_checkpoints :]}
        keep_best = best(self.folder, self.validated) if self.train.keep_best else None
        for step, old in complete(self.folder):
            if step not in kept and step != keep_best:
                discarded = old.with_name(f"{old.name}.discarded")  # a kill in rmtree must not leave half a checkpoint
                os.rename(old, discarded)
                shutil.rmtree(discarded)
