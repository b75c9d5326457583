"""Results that others measured: of judges (EQ-Bench, CPTUB, MT-Bench), of tool calling (BFCL), of lm-eval's own command line.

They are shown, never recomputed. What is accepted:

- `.csv` with a column of models (`model`, in any case) and columns of numbers or percentages, as BFCL's `data_overall.csv`;
- `.json`: `{"benchmark": …, "source": …, "scores": {"<model>": <number>}}`, with an object of numbers in the place of one
  where a benchmark has several, or a list of such. With `"scale": <best score>` each model has a number, or an object of
  `score` and, where known, `stderr`, `items` and `weights` (`identity` of the model in an evaluation's summary.json);
- `.json` of lm-eval's command line (`results_….json`).
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError

EXPECTED = (
    'expected a .csv with a column `model`, or .json {"benchmark": …, "scores": {"<model>": <number>}}: docs/evaluating.md'
)


@dataclass(frozen=True)
class ExternalBenchmark:
    """A benchmark that somebody else ran.

    Attributes:
        file: that it was read from.
        benchmark: its name.
        source: who measured it, where the file says so.
        scores: model → what was measured → number, as the file has them.
        scale: best score that there is; None: not said.
        weights: model → fingerprint of what was measured, where the file says it.
    """

    file: str
    benchmark: str
    source: str
    scores: dict[str, dict[str, float]]
    scale: float | None = None
    weights: dict[str, str] = field(default_factory=dict)


def read_all(given: Sequence[str]) -> list[ExternalBenchmark]:
    """The benchmarks of the files of `report.results`. Raises UserError as `read` does."""
    return [one for path in given for one in read(paths.resolve(path), f"report.results={path}")]


def read(path: Path, key: str) -> list[ExternalBenchmark]:
    """The benchmarks of a file.

    Raises:
        UserError: it is not there, or none of the accepted kinds.
    """
    if not path.is_file():
        raise UserError(f"{key}: no such file", EXPECTED)
    try:
        text = path.read_text("utf-8-sig")
        rows = _csv(path, text) if path.suffix == ".csv" else _json(path, json.loads(text, object_pairs_hook=_once))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise UserError(f"{key}: {error}", EXPECTED) from None
    if not any(values for one in rows for values in one.scores.values()):
        raise UserError(f"{key}: no model with a number", EXPECTED)
    return rows


def _csv(path: Path, text: str) -> list[ExternalBenchmark]:
    rows = list(csv.DictReader(io.StringIO(text)))
    names = [name for name in (rows[0] if rows else {}) if name and name.strip().lower() in ("model", "name")]
    if not names:
        raise ValueError("no column `model`")
    scores = {}
    for row in rows:
        numbers = {column: _number(value) for column, value in row.items() if column and column not in names}
        scores[row[names[0]]] = {column: value for column, value in numbers.items() if value is not None}
    return [ExternalBenchmark(path.name, path.stem, "", scores)]


def _json(path: Path, body: Any) -> list[ExternalBenchmark]:
    if isinstance(body, dict) and isinstance(body.get("results"), dict):
        return [_lm_eval(path, body)]
    rows = []
    for one in body if isinstance(body, list) else [body]:
        scale = None if one.get("scale") is None else _number(one["scale"])
        if one.get("scale") is not None and (scale is None or scale <= 0):
            raise ValueError(f"scale {one['scale']}: expected the best score that there is")
        scores, weights = {}, {}
        for model, value in one["scores"].items():
            values = value if isinstance(value, dict) else {"score": value}
            scores[str(model)] = {str(what): number for what, given in values.items() if (number := _number(given)) is not None}
            if scale is not None:
                _check(str(model), values, scores[str(model)], scale)
            if isinstance(values.get("weights"), str):
                weights[str(model)] = values["weights"]
        source = str(one.get("source", ""))
        rows.append(ExternalBenchmark(path.name, str(one["benchmark"]), source, scores, scale, weights))
    return rows


def _check(model: str, given: dict[str, Any], numbers: dict[str, float], scale: float) -> None:
    """Of a benchmark with a scale: the score is on it, and what is said beside it can be."""
    if "score" not in numbers:
        raise ValueError(f"score of {model}: {given.get('score')} is no number")
    if numbers["score"] > scale:
        raise ValueError(f"score of {model}: {numbers['score']:g} is beyond the scale of {scale:g}")
    for name, least in (("stderr", 0), ("items", 1)):
        if given.get(name) is not None and numbers.get(name, -1) < least:
            raise ValueError(f"{name} of {model}: {given[name]}: expected a number of at least {least}, or none")
    if not isinstance(given.get("weights", ""), str):
        raise ValueError(f"weights of {model}: {given['weights']}: expected a fingerprint")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose names are all different."""
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice!r} is named twice")
    return dict(pairs)


def _lm_eval(path: Path, body: dict) -> ExternalBenchmark:
    model = str(body.get("model_name") or (body.get("config") or {}).get("model") or path.stem)
    values = {}
    for task, metrics in body["results"].items():
        for name, value in metrics.items():
            if "," in name and "_stderr" not in name and isinstance(value, (int, float)):
                values[f"{task} {name.removesuffix(',none')}"] = float(value)
    return ExternalBenchmark(path.name, "lm-eval", f"lm-eval {body.get('lm_eval_version', '')}".strip(), {model: values})


def _number(value: Any) -> float | None:
    """A finite number; `73.18%` is 73.18; None of any other text."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(str(value).strip().removesuffix("%"))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
