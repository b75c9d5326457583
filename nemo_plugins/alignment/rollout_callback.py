"""Rollouts between the updates: when one is due, from which prompts, and the file that a resumed run reads.

A callback, so that NeMo's trainer stays the loop. All that a rollout depends on is the weights, the run's seed and the number
of the next prompt, so a run that is resumed at the beginning of a rollout does it again, and one in its middle reads its file.
What NeMo lacks: it has no training on a model's own answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from lightning.pytorch.callbacks import Callback
from megatron.core import parallel_state
from nemo.utils.model_utils import unwrap_model
from torch import distributed

from nemo_plugins import runs
from nemo_plugins.alignment.grpo_batch import Rollout, Rows
from nemo_plugins.alignment.rollouts import Away
from nemo_plugins.data.chat.prompts import Prompt
from nemo_plugins.training import process_groups
from nemo_plugins.training.checkpoints import StepCheckpoint
from nemo_plugins.training.parameters import settled
from nemo_plugins.training.progress import Metrics

Found = TypeVar("Found")


class RolloutCallback(Callback):
    """Args:
    run: the run folder.
    seed: of the run.
    updates: of one rollout.
    prompts: with their tokens: `data` to train on, `heldout` to measure.
    rows: get each rollout.
    engine: made from Megatron's model and the trainer once training starts.
    """

    def __init__(
        self, run: runs.Run, seed: int, updates: int, prompts: Mapping[str, Sequence[Prompt]], rows: Rows, engine: Callable
    ):  # fmt: skip
        self.run = run
        self.seed = seed
        self.updates = updates
        self.train = prompts["data"]
        self.heldout = prompts["heldout"]
        self.rows = rows
        self.make_engine = engine
        self.order, self.epoch = np.zeros(0, np.int64), -1

    def roll(self, trainer, number: int, following: int) -> Rollout:
        """Rollout `number` from the run's prompt `following` on, the same on every process, with its line of metrics."""
        raise NotImplementedError

    def begin(self, trainer) -> None:
        """Make the engine."""
        self.engine = self.make_engine(unwrap_model(trainer.strategy.megatron_parallel[0]), trainer)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        number, within = divmod(trainer.global_step, self.updates)
        if number == self.rows.number:
            return
        if within:
            self.rows.rollout = Rollout.load(self.path(number))
        else:
            following = int(Rollout.load(self.path(number - 1)).following) if number else 0
            began = time.monotonic()
            try:
                with settled(trainer.strategy.megatron_parallel):
                    self.engine.refresh(number, self.updates)
                    self.rows.rollout = self.roll(trainer, number, following)
            except Away as away:
                raise self.stopped(trainer, away) from None
            callback(trainer, Metrics).excluded_seconds += time.monotonic() - began
            if trainer.is_global_zero:
                self.rows.rollout.save(self.path(number))
                self.forget(number)
            trainer.strategy.barrier("rollout is written")
        self.rows.number = number

    def path(self, number: int):
        return self.run.folder / "rollouts" / f"rollout={number:06d}.safetensors"

    def forget(self, number: int) -> None:
        """Remove the files that no kept checkpoint goes on from."""
        steps = [int(path.name.partition("=")[2]) for path in (self.run.folder / "steps").glob("step=*") if path.suffix == ""]
        oldest = min([*steps, number * self.updates]) // self.updates - 1
        for path in (self.run.folder / "rollouts").glob("rollout=*.safetensors"):
            if int(path.stem.partition("=")[2]) < oldest:
                path.unlink()

    def prompt(self, draw: int) -> Prompt:
        """The run's prompt number `draw`: all of them in a new order, again and again."""
        epoch, place = divmod(draw, len(self.train))
        if epoch != self.epoch:
            self.order, self.epoch = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.train)), epoch
        return self.train[int(self.order[place])]

    def stopped(self, trainer, away: Away) -> runs.Stopped:
        """The end of a run whose engine is away; what was trained is kept."""
        if trainer.global_step:
            callback(trainer, StepCheckpoint).write(trainer)
        return runs.Stopped(str(away))


def callback(trainer, kind: type):
    """The trainer's callback of a kind."""
    return next(one for one in trainer.callbacks if isinstance(one, kind))


def share(work: Sequence[int]) -> list[int]:
    """The part of some work that is this data-parallel copy's."""
    return list(work)[parallel_state.get_data_parallel_rank() :: parallel_state.get_data_parallel_world_size()]


def gathered(own: dict[int, Found] | Exception) -> dict[int, Found]:
    """Every data-parallel copy's part together. Raises what any of them met."""
    copies = parallel_state.get_data_parallel_world_size()
    parts: list = [own] * copies
    if copies > 1:
        group = parallel_state.get_data_parallel_group()
        process_groups.meet(group)  # a server answers one copy much later than another
        distributed.all_gather_object(parts, own, group=group)
    for part in parts:
        if isinstance(part, Exception):
            raise part
    return {key: value for part in parts for key, value in part.items()}
