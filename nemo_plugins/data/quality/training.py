"""Trains a quality classifier, and measures one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nemo_plugins.data.quality.classifier import CLASSES, Classifier, margins, softmax
from nemo_plugins.data.quality.examples import Example
from nemo_plugins.data.quality.features import NAMES, Extractor

HIGH = CLASSES.index("HIGH")
STOP_ROUNDS = 15  # without a lower loss
BINS = 10  # of the reliability curve
REGULARISATION = 1.0  # inverse strength of the calibration's L2
SPLIT = {"fit": 0.7, "stop": 0.85, "calibrate": 1.0}  # upper ends


def split(texts: Sequence[str], seed: int) -> dict[str, list[int]]:
    """Numbers of the documents by what they are for, decided by a hash of each: its examples all go one way."""
    sides: dict[str, list[int]] = {side: [] for side in SPLIT}
    for number, text in enumerate(texts):
        digest = hashlib.blake2b(text.encode(), digest_size=8, key=str(seed).encode()).digest()
        place = int.from_bytes(digest, "big") / 2**64
        sides[next(side for side, end in SPLIT.items() if place < end)].append(number)
    return sides


def train(
    examples: dict[str, list[Example]], extractor: Extractor, about: dict, *, rounds: int, depth: int, seed: int
) -> Classifier:
    """Fit trees, stop them where the loss on other documents no longer falls, calibrate on still others.

    Args:
        examples: by `fit`, `stop` and `calibrate`.
        about: kept with the model.
        rounds: trees of each class, at most.
    """
    import xgboost
    from sklearn.linear_model import LogisticRegression

    data = {side: (extractor.matrix([one.text for one in made]), labels(made)) for side, made in examples.items()}
    matrices = {
        side: xgboost.DMatrix(features, label=label, feature_names=list(NAMES)) for side, (features, label) in data.items()
    }
    booster = xgboost.train(
        {
            "objective": "multi:softprob", "num_class": len(CLASSES), "max_depth": depth, "eta": 0.15, "subsample": 0.8,
            "colsample_bytree": 0.5, "min_child_weight": 3, "lambda": 2.0, "tree_method": "hist", "seed": seed, "nthread": 1,
        },
        matrices["fit"], rounds, evals=[(matrices["stop"], "stop")], early_stopping_rounds=STOP_ROUNDS, verbose_eval=False,
    )  # fmt: skip
    booster = booster[: booster.best_iteration + 1]
    booster.feature_names = None  # features come as plain arrays
    features, label = data["calibrate"]
    fitted = LogisticRegression(C=REGULARISATION, max_iter=2000).fit(margins(booster, features), label)
    about = about | {"examples": {side: len(made) for side, made in examples.items()}, "trees": booster.num_boosted_rounds()}
    return Classifier(booster, fitted.coef_.T, fitted.intercept_, extractor, about)


def labels(examples: Sequence[Example]) -> np.ndarray:
    return np.array([one.label for one in examples])


@dataclass(frozen=True)
class ClassifierMetrics:
    """A classifier on examples.

    Attributes:
        precision, recall: of HIGH at the threshold.
        confusion: examples by class and by what the threshold keeps, rows LOW, MEDIUM, HIGH, columns dropped, kept.
        kinds: by how an example was made, (examples, share kept).
        reliability: by bin of P(HIGH): (mean probability, share that is HIGH, examples).
        calibration_error: mean distance of the two, weighted by examples (ECE); `uncalibrated_error` without calibration.
        log_loss: of all classes, nats.
    """

    examples: int
    minimum: float
    precision: float
    recall: float
    confusion: list[list[int]]
    kinds: dict[str, tuple[int, float]]
    reliability: list[tuple[float, float, int]]
    calibration_error: float
    uncalibrated_error: float
    log_loss: float


def measure(classifier: Classifier, examples: Sequence[Example], minimum: float) -> ClassifierMetrics:
    """Precision, recall and reliability of HIGH, kept from `minimum` on."""
    features, label = classifier.extractor.matrix([one.text for one in examples]), labels(examples)
    chances = classifier.of_features(features)
    raw = softmax(margins(classifier.booster, features))
    is_high, kept = label == HIGH, chances[:, HIGH] >= minimum
    kinds: dict[str, list[bool]] = {}
    for one, stays in zip(examples, kept.tolist(), strict=True):
        kinds.setdefault(f"{CLASSES[one.label]} {one.kind}", []).append(stays)
    return ClassifierMetrics(
        examples=len(examples),
        minimum=minimum,
        precision=float((is_high & kept).sum() / max(1, kept.sum())),
        recall=float((is_high & kept).sum() / max(1, is_high.sum())),
        confusion=[[int(((label == place) & (kept == side)).sum()) for side in (False, True)] for place in range(len(CLASSES))],
        kinds={name: (len(found), sum(found) / len(found)) for name, found in sorted(kinds.items())},
        reliability=reliability(chances[:, HIGH], is_high),
        calibration_error=calibration_error(chances[:, HIGH], is_high),
        uncalibrated_error=calibration_error(raw[:, HIGH], is_high),
        log_loss=float(-np.log(np.maximum(chances[np.arange(len(label)), label], 1e-12)).mean()),
    )


def reliability(chances: np.ndarray, true: np.ndarray) -> list[tuple[float, float, int]]:
    """By bin of the probability that has examples: its mean, the share that is true, how many."""
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    filled = [(bins == place) for place in range(BINS) if (bins == place).any()]
    return [(float(chances[which].mean()), float(true[which].mean()), int(which.sum())) for which in filled]


def calibration_error(chances: np.ndarray, true: np.ndarray) -> float:
    """Expected calibration error (arXiv 1706.04599): mean distance of probability and share, weighted by examples."""
    return sum(abs(mean - share) * count for mean, share, count in reliability(chances, true)) / max(1, len(chances))
