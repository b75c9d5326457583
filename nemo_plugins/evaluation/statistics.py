"""What scores are worth: normalised against guessing, with intervals, and held against each other on the same items.

The bootstrap (Efron and Tibshirani 1993, chapters 13 and 16) draws the items of a task with replacement. The draws depend on
nothing but a key and the number of items, so that two models, and two tasks on the same items, are always resampled alike:
differences and ratios of two models' resampled scores are then those of a paired bootstrap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np


def draws(items: int, resamples: int, key: str) -> np.ndarray:
    """Which items each resample has, `[resamples, items]`; the same arguments give the same draws everywhere."""
    seed = int.from_bytes(hashlib.sha256(f"{key}:{items}".encode()).digest()[:8], "big")
    return np.random.default_rng(seed).integers(items, size=(resamples, items), dtype=np.int32)


def resampled(values: Sequence, resamples: int, key: str, aggregate: Callable | None = None) -> np.ndarray:
    """A score on each resample, `[resamples]`.

    Args:
        values: what each item came to, in the items' order; numbers where `aggregate` is None.
        aggregate: from a list of values to the score; None: the mean.
    """
    which = draws(len(values), resamples, key)
    if aggregate is None:
        return np.asarray(values, dtype=np.float64)[which].mean(axis=1)
    return np.array([aggregate([values[item] for item in row]) for row in which], dtype=np.float64)


def interval(values: np.ndarray, confidence: float) -> tuple[float, float] | None:
    """Percentile interval of resampled values; None where one of them is not finite."""
    if not np.isfinite(values).all():
        return None
    outside = (1 - confidence) / 2
    low, high = np.quantile(values, [outside, 1 - outside])
    return float(low), float(high)


def p_value(differences: np.ndarray) -> float:
    """Two-sided achieved significance of a difference from its resampled values: twice the smaller share beyond 0.

    A difference of exactly 0 counts on both sides; the least value is 2 / (resamples + 1).
    """
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (len(differences) + 1))


def normalised(score, baseline: float):
    """(score − baseline) / (1 − baseline): 0 is guessing, 1 is perfect, and less than 0 is worse than guessing."""
    return (score - baseline) / (1 - baseline)


def recovery(student: np.ndarray, teacher: np.ndarray) -> np.ndarray | None:
    """student / teacher of resampled scores; None where the teacher is not above guessing in every resample."""
    return student / teacher if (teacher > 0).all() else None
