"""What the loss would be without a layer, or without a run of neighbouring ones: Minitron's perplexity criterion.

What ModelOpt lacks: Block Influence is its only criterion of depth (arXiv 2408.11796 compares the two).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torch import distributed

from nemo_plugins.runs import folder

Run = tuple[int, int]  # first and last layer, from 0


@dataclass
class Removals:
    """Losses on the calibration text, nats a token.

    Attributes:
        baseline: of the whole model.
        losses: without the layers of a run.
    """

    baseline: float
    losses: dict[Run, float] = field(default_factory=dict)

    def increase(self, run: Run) -> float:
        return self.losses[run] - self.baseline

    def of_layers(self) -> list[float] | None:
        """Increase for each layer alone, from 0; None where not all were measured."""
        singles = sorted(run for run in self.losses if run[0] == run[1])
        whole = bool(singles) and [first for first, _ in singles] == list(range(len(singles)))
        return [self.increase(run) for run in singles] if whole else None

    def of_length(self, length: int) -> dict[Run, float]:
        """Losses without each run of `length` layers."""
        return {run: loss for run, loss in sorted(self.losses.items()) if run[1] - run[0] + 1 == length}

    @classmethod
    def load(cls, path: Path) -> Removals | None:
        if not path.is_file():
            return None
        stored = json.loads(path.read_text())
        runs = {run: run.partition("-") for run in stored["without"]}
        losses = {(int(first), int(last)): stored["without"][run] for run, (first, _, last) in runs.items()}
        return cls(stored["baseline"], losses)

    def save(self, path: Path) -> None:
        without = {f"{first}-{last}": loss for (first, last), loss in sorted(self.losses.items())}
        folder.write(path, json.dumps({"baseline": self.baseline, "without": without}, indent=1) + "\n")


def runs_of(length: int, layers: int) -> list[Run]:
    """Every run of `length` neighbouring layers of a model."""
    return [(first, first + length - 1) for first in range(layers - length + 1)]


def measure(dynamic, loss: Callable[[], float], runs: list[Run], path: Path, is_writer: bool) -> Removals:
    """Measure what is not yet in the file at `path`, which is written after each run of layers.

    Args:
        dynamic: the model whose `decoder.layers` carry `layer_number`, from 1; on a pipeline each rank has its own.
        loss: loss of the model as it stands; every rank calls it and gets the same.
    """
    there = [Removals.load(path) if is_writer else None]
    if distributed.is_initialized():
        distributed.broadcast_object_list(there)  # rank 0 decides for all: another job may write the file meanwhile
    removals = there[0] or Removals(loss())
    for run in runs:
        if run in removals.losses:
            continue
        with without(dynamic, range(run[0], run[1] + 1)):
            removals.losses[run] = loss()
        if is_writer:
            removals.save(path)
    return removals


@contextmanager
def without(dynamic, layers) -> Iterator[None]:
    """Within it, these layers (from 0) hand on what they are given."""

    def hand_on(hidden_states, *args, context=None, **kwargs):
        return hidden_states, context

    gone = [layer for layer in dynamic.decoder.layers if layer.layer_number - 1 in set(layers)]
    for layer in gone:
        layer.__dict__["forward"] = hand_on
    try:
        yield
    finally:
        for layer in gone:
            del layer.__dict__["forward"]
