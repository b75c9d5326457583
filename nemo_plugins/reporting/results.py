"""Results that others measured: of judges (EQ-Bench, CPTUB, MT-Bench), of tool calling (BFCL), of lm-eval's own command line.

They are shown, never recomputed. What is accepted:

- `.csv` with a column of models (`model`, in any case) and columns of numbers or percentages, as BFCL's `data_overall.csv`;
- `.json`: `{"benchmark": …, "source": …, "scores": {"<model>": <number>}}`, with an object of numbers in the place of one
  where a benchmark has several, or a list of such;
- `.json` of lm-eval's command line (`results_….json`).
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """

    file: str
    benchmark: str
    source: str
    scores: dict[str, dict[str, float]]


def read(path: Path, key: str) -> list[ExternalBenchmark]:
    """The benchmarks of a file.

    Raises:
        UserError: it is not there, or none of the accepted kinds.
    """
    if not path.is_file():
        raise UserError(f"{key}: no such file", EXPECTED)
    try:
        text = path.read_text("utf-8-sig")
        rows = _csv(path, text) if path.suffix == ".csv" else _json(path, json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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
        scores = {}
        for model, value in one["scores"].items():
            values = value if isinstance(value, dict) else {"score": value}
            scores[str(model)] = {str(what): number for what, given in values.items() if (number := _number(given)) is not None}
        rows.append(ExternalBenchmark(path.name, str(one["benchmark"]), str(one.get("source", "")), scores))
    return rows


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
