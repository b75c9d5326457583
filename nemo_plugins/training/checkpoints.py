"""Checkpoints of a training run: written beside, renamed when whole, the newest one resumes.

What NeMo lacks: its `ModelCheckpoint` marks a half-written checkpoint and then refuses to resume at all if that was the newest
one, and writes every checkpoint twice so that one of them ends in `-last`. Here a folder that is there is whole.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from nemo_plugins.runs import put_in_place

STEP = re.compile(r"step=(\d+)")


def complete(folder: Path) -> list[tuple[int, Path]]:
    """Whole checkpoints under `folder` as (step, path), oldest first."""
    found = ((STEP.fullmatch(path.name), path) for path in folder.glob("step=*"))
    return sorted((int(match[1]), path) for match, path in found if match)


def newest(folder: Path) -> tuple[int, Path] | None:
    """The checkpoint to resume from, or None."""
    return next(reversed(complete(folder)), None)


def save(trainer, path: Path, weights_only: bool) -> None:
    """Write model, optimizer and data position (or the weights alone) with NeMo's context to `path`, whole or not at all.

    Called by every rank, while training runs: afterwards NeMo wraps the model once less and names its tensors otherwise.
    """
    from nemo.lightning.io.pl import TrainerContext

    partial = path.with_name(f"{path.name}.partial")
    if trainer.is_global_zero:
        shutil.rmtree(partial, ignore_errors=True)
    trainer.strategy.barrier("checkpoint folder is clear")
    trainer.save_checkpoint(partial, weights_only)
    if trainer.is_global_zero:
        TrainerContext.from_trainer(trainer).io_dump(partial / "context", yaml_attrs=["model"])
    trainer.strategy.barrier("checkpoint is written")
    if trainer.is_global_zero:
        put_in_place(partial, path)
    trainer.strategy.barrier("checkpoint is in place")


def callback(folder: Path, every: int, keep: int, final: Path):
    """A Lightning callback that saves every `every` steps and at the end, and keeps the newest `keep`.

    Args:
        final: gets the weights alone of the last step, before that step's checkpoint: where the latter is, so is the former.
    """
    from lightning.pytorch.callbacks import Checkpoint

    class StepCheckpoint(Checkpoint):
        last_model_path = ""

        # At the start of the next batch rather than at the end of this one: only then has Lightning counted the batch as done
        # (else a resumed run validates a step late), and the validation that is due has run and is in `metrics.jsonl`.
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if trainer.global_step and trainer.global_step % every == 0:
                self.write(trainer)

        def on_train_end(self, trainer, pl_module) -> None:
            self.write(trainer)

        def write(self, trainer) -> None:
            path = folder / f"step={trainer.global_step:07d}"
            if path.exists():  # the one that this run resumed from
                return
            if trainer.global_step == trainer.max_steps:
                save(trainer, final, weights_only=True)
            save(trainer, path, weights_only=False)
            if trainer.is_global_zero:
                for _, old in complete(folder)[:-keep]:
                    discarded = old.with_name(f"{old.name}.discarded")  # a kill in rmtree must not leave half a checkpoint
                    os.rename(old, discarded)
                    shutil.rmtree(discarded)

    return StepCheckpoint()
