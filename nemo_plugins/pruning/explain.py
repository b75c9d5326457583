"""What a pruning kept and why, as plain numbers for its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from nemo_plugins.models.architecture import Architecture
from nemo_plugins.pruning import importance, stability
from nemo_plugins.reporting.prune_report import Explained

if TYPE_CHECKING:
    from nemo_plugins.pruning.loaded_teacher import LoadedTeacher


def pruning(
    loaded: LoadedTeacher,
    student: Architecture,
    kept: list[int],
    criterion: str,
    losses: tuple[float, float],
    unexplained: dict[int, tuple[float, float]],
) -> Explained:
    """Everything that the report of a pruning shows; what was not measured is left out.

    Args:
        losses: held-out loss before and after.
        unexplained: as of `Explained`.
    """
    scores, removals, how = loaded.scores, loaded.removals, loaded.cfg.prune.aggregation
    criteria: dict[str, list[float]] = {}
    width, stable = {}, None
    calibration: dict[str, int | str] = {}
    if scores is not None:
        criteria["Block Influence"] = scores.layers.tolist()
        width = {
            "FFN neurons": _kept(scores.width("ffn", how), student.ffn_hidden_size),
            "attention heads": _kept_heads(scores.heads(how), student),
            "hidden channels": _kept(scores.hidden(how)[None], student.hidden_size),
        }
        stable = stability.measure(scores, student)
        measured = scores.measured
        calibration = {
            "samples": measured.samples,
            "seq_length": measured.seq_length,
            "tokens": measured.samples * measured.seq_length,
            "precision": measured.precision,
            "layer_spec": measured.layer_spec,
            **{f"version of {name}": version for name, version in measured.versions.items()},
        }
    if removals is not None and (alone := removals.of_layers()):
        criteria["loss increase"] = alone
    gone = loaded.teacher.num_layers - student.num_layers
    dropped = sorted(set(range(loaded.teacher.num_layers)) - set(kept))
    without_runs = None
    if removals and gone > 1 and (of_length := removals.of_length(gone)):
        without_runs = removals.baseline, of_length, (dropped[0], dropped[-1]) if criterion == "loss_run" else None
    return Explained(
        title=f"{loaded.cfg.run.name}: pruning {loaded.cfg.model.name}",
        teacher=loaded.teacher,
        student=student,
        criterion=criterion,
        kept_layers=kept,
        layer_criteria=criteria,
        layer_scores=criteria.get("loss increase" if criterion == "loss" else "Block Influence", []),
        width=width,
        agreement=agreement(criteria),
        stability=stable,
        removals=without_runs,
        calibration=calibration,
        losses=losses,
        unexplained=unexplained,
    )


def agreement(criteria: dict[str, list[float]]) -> tuple[list[str], numpy.ndarray]:
    """Spearman's rank correlation of every two criteria of depth that were measured, and of the place in the model."""
    if not criteria:
        return [], numpy.zeros((0, 0))
    layers = len(next(iter(criteria.values())))
    vectors = {**criteria, "first layers": [float(layers - layer) for layer in range(layers)]}
    tensors = [torch.tensor(values, dtype=torch.float64) for values in vectors.values()]
    return list(vectors), numpy.array([[importance.rank_correlation(one, other) for other in tensors] for one in tensors])


def _kept(scores: Tensor, count: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Scores `[L, n]` and which of them the `count` highest of each row are, in ModelOpt's order (argsort, descending)."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept.scatter_(1, scores.argsort(dim=1, descending=True)[:, :count], True)
    return scores.numpy(), kept.numpy()


def _kept_heads(scores: Tensor, student: Architecture) -> tuple[numpy.ndarray, numpy.ndarray]:
    """As `_kept`; ModelOpt keeps the highest of each query group."""
    groups = student.num_query_groups
    of_group = scores.reshape(len(scores) * groups, -1)
    _, kept = _kept(of_group, student.num_attention_heads // groups)
    return scores.numpy(), kept.reshape(scores.shape)
