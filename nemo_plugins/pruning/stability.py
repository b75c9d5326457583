"""Whether a calibration had enough samples: what two disjoint sets of n samples each say of the same teacher.

n goes up to half of all samples, so that both sets grow and the curve levels off where more samples change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_plugins.models.architecture import Architecture
from nemo_plugins.pruning import importance
from nemo_plugins.pruning.scores import NORMS, Scores


@dataclass(frozen=True)
class Stability:
    """Agreement of two disjoint sets of samples.

    Attributes:
        samples: n, the samples of each set, ascending.
        total: of the whole calibration.
        correlation: kind ("layers", "FFN neurons", …) → Spearman correlation of both rankings at each n, mean over the layers.
        overlap: kind → share of what one set keeps that the other keeps, too, at each n; without kinds that are not pruned.
        chance: kind → that share for two rankings that have nothing to do with each other.
    """

    samples: list[int]
    total: int
    correlation: dict[str, list[float]]
    overlap: dict[str, list[float]]
    chance: dict[str, float]


def measure(scores: Scores, student: Architecture) -> Stability | None:
    """Agreement for what `student` keeps; None where the calibration was not kept in parts."""
    parts = len(scores.tensors["layers"])
    if parts < 2:
        return None
    teacher = scores.measured.architecture
    heads, groups = teacher["num_attention_heads"], teacher["num_query_groups"]
    kinds: dict[
        str, tuple[Callable[[slice], Tensor], int, int]
    ] = {  # importance of some parts `[rows, n]`; n and how many stay
        "layers": (lambda some: scores.tensors["layers"][some].mean(0)[None], teacher["num_layers"], student.num_layers),
        "FFN neurons": (lambda some: _width(scores, "ffn", some), teacher["ffn_hidden_size"], student.ffn_hidden_size),
        "attention heads": (
            lambda some: importance.head_importance(_width(scores, "heads", some), heads),
            heads,
            student.num_attention_heads,
        ),
        "hidden channels": (
            lambda some: sum(_width(scores, where, some).sum(0) for where in NORMS)[None],
            teacher["hidden_size"],
            student.hidden_size,
        ),
    }
    counts = range(1, parts // 2 + 1)
    correlation: dict[str, list[float]] = {kind: [] for kind in kinds}
    overlap: dict[str, list[float]] = {kind: [] for kind, (_, count, kept) in kinds.items() if kept < count}
    for kind, (of, _, kept) in kinds.items():
        for count in counts:
            pairs = [
                (of(slice(first, first + count)), of(slice(first + count, first + 2 * count)))
                for first in range(0, parts - 2 * count + 1, 2 * count)
            ]
            correlation[kind].append(
                _mean(importance.rank_correlation(a, b) for pair in pairs for a, b in zip(*pair, strict=True))
            )
            if kind in overlap:
                rows = groups if kind == "attention heads" else 1  # heads are chosen within each query group
                overlap[kind].append(_mean(_overlap(*pair, kept // rows, rows) for pair in pairs))
    each = scores.measured.samples // parts
    chance = {kind: kinds[kind][2] / kinds[kind][1] for kind in overlap}
    return Stability([each * count for count in counts], scores.measured.samples, correlation, overlap, chance)


def of_all(correlation: float) -> float:
    """Correlation of two calibrations with all samples each, from that of the halves (Spearman and Brown's formula)."""
    return 2 * correlation / (1 + correlation) if correlation > 0 else correlation


def _width(scores: Scores, where: str, some: slice) -> Tensor:
    """Importance of each channel on some parts of the calibration, `[L, n]`: mean over the sequence, L2 over the samples."""
    return scores.tensors[f"{where}.subsets"][some].sum(0).sqrt()


def _overlap(one: Tensor, other: Tensor, kept: int, groups: int) -> float:
    """Share of the `kept` highest of each row, or of each of its `groups` parts, that is the same in both `[rows, n]`."""
    chosen = []
    for values in (one, other):
        split = values.reshape(len(values) * groups, -1)
        marks = torch.zeros_like(split, dtype=torch.bool)
        chosen.append(marks.scatter_(1, split.argsort(dim=1, descending=True)[:, :kept], True))
    return (chosen[0] & chosen[1]).sum().item() / chosen[0].sum().item()


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
