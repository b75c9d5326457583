"""P(LOW), P(MEDIUM), P(HIGH) of texts: XGBoost over the features, calibrated.

A model is a folder: `model.ubj` in XGBoost's own format, and `classifier.json` with the features' names, the language, the
calibration and what it was trained on. Neither can hold code. Calibration is a softmax over a linear map of the trees' margins
(matrix scaling, arXiv 1706.04599), fitted on text that no tree has seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nemo_plugins.configs.schema import LanguageConfig
from nemo_plugins.data.quality.features import NAMES, Extractor
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.folder import write

CLASSES = ("LOW", "MEDIUM", "HIGH")
FORMAT = 1


@dataclass
class Classifier:
    """A trained classifier.

    Attributes:
        booster: xgboost.Booster with one margin for each class.
        weights, bias: of the calibration, `[margins, classes]` and `[classes]`.
        extractor: makes the features.
        about: what it was trained on, as `classifier.json` has it.
    """

    booster: Any
    weights: np.ndarray
    bias: np.ndarray
    extractor: Extractor
    about: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path, language: LanguageConfig) -> Classifier:
        """Read a model.

        Raises:
            UserError: there is none, it is of another language, or of other features than this code has.
        """
        import xgboost

        folder = Path(folder)
        file = folder / "classifier.json"
        if not file.is_file():
            raise UserError(f"no quality classifier in {folder}", "expected what corpus.task=train_quality leaves")
        about = json.loads(file.read_text())
        if about["language"] != language.code:
            raise UserError(
                f"the quality classifier in {folder} is of {about['language']}, the text is {language.code}",
                "train one for the language: corpus.task=train_quality",
            )
        if about["format"] != FORMAT or tuple(about["features"]) != NAMES:
            raise UserError(f"the quality classifier in {folder} was trained on other features", "train it again")
        booster = xgboost.Booster()
        booster.load_model(folder / "model.ubj")
        booster.set_param({"nthread": 1})  # a process of many: each has its core
        calibration = about["calibration"]
        return cls(booster, np.array(calibration["weights"]), np.array(calibration["bias"]), Extractor(language), about)

    def save(self, folder: Path) -> None:
        """Write `model.ubj` and then `classifier.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "model.ubj", bytes(self.booster.save_raw("ubj")))
        calibration = {"weights": self.weights.round(6).tolist(), "bias": self.bias.round(6).tolist()}
        about = {"format": FORMAT, **self.about, "calibration": calibration, "features": NAMES}
        write(folder / "classifier.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of the classes in the order of `CLASSES`, float64 `[texts, 3]`, rows sum to 1."""
        return self.of_features(self.extractor.matrix(texts))

    def of_features(self, features: np.ndarray) -> np.ndarray:
        """The same of features, `[texts, len(NAMES)]`."""
        if not len(features):
            return np.zeros((0, len(CLASSES)))
        return softmax(margins(self.booster, features) @ self.weights + self.bias)


def margins(booster: Any, features: np.ndarray) -> np.ndarray:
    """What the trees say before any softmax, `[texts, classes]`."""
    return booster.inplace_predict(features, predict_type="margin").astype(np.float64)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
