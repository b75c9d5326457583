"""Held-out losses of the models of a run, and which stage measured each: those that are compared are of the same windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# model → (stage, metric) on the windows that trainings are validated on, the same on pruning's where it has one, baseline?
MODELS = {
    "teacher": (("distill", "teacher_val_loss"), ("prune", "loss_before"), False),
    "pruned": (("distill", "val_loss_first"), ("prune", "loss_after"), False),
    "distilled": (("distill", "val_loss"), None, False),
    "pruned at random": (("random/distill", "val_loss_first"), ("random/prune", "loss_after"), True),
    "pruned at random, distilled": (("random/distill", "val_loss"), None, True),
    "without its last layers": (("last_layers/distill", "val_loss_first"), ("last_layers/prune", "loss_after"), True),
    "without its last layers, distilled": (("last_layers/distill", "val_loss"), None, True),
    "from scratch, same tokens": (("scratch/pretrain", "val_loss"), None, True),
}
BASELINES = tuple(name for name, (_, _, is_baseline) in MODELS.items() if is_baseline)


def places(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Stage and metric with the loss of each model that the run has.

    A distillation measures teacher and pruned student on its own windows; beside one that did not, they are pruning's.

    Args:
        summaries: by stage.
    """

    def has(place: tuple[str, str]) -> bool:
        return summaries.get(place[0], {}).get("metrics", {}).get(place[1]) is not None

    apart = not all(has(MODELS[model][0]) for model in ("teacher", "pruned"))
    chosen = {name: of_pruning if apart and of_pruning else place for name, (place, of_pruning, _) in MODELS.items()}
    return {name: place for name, place in chosen.items() if has(place)}


def losses(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Loss of each model that the run has, nats a token."""
    return {name: summaries[stage]["metrics"][metric] for name, (stage, metric) in places(summaries).items()}


def recovered(teacher: float, pruned: float, distilled: float) -> float | None:
    """Share of the loss that pruning cost which distillation won back; None where pruning cost nothing."""
    return (pruned - distilled) / (pruned - teacher) if pruned > teacher else None
