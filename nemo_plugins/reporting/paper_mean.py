"""The paper's mean recovery, of a run: student / teacher on each of the paper's benchmarks that both have, and their mean.

The paper calls its 90.1 % a mean recovery and prints no formula. Here it is the mean of the ratios, every benchmark alike:
ratios of scores on scales of 5 and of 100 can be averaged, the scores cannot. The paper's own rows come to 89.93 % by this,
and to its figure by no way that was tried (`paper_figures.recompute`).

A benchmark is taken from result files (`report.results`) or, where no file names it, from the run's own evaluations. Imports no
torch, no matplotlib, and numpy only where there are resamples.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import yaml

from nemo_plugins.configs.schema import EvalConfig
from nemo_plugins.configs.store import CONF
from nemo_plugins.evaluation import run_outputs
from nemo_plugins.evaluation.run_outputs import FinishedStage
from nemo_plugins.reporting import paper_figures
from nemo_plugins.reporting.results import ExternalBenchmark
from nemo_plugins.runs.errors import UserError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Kept:
    """What the student keeps of its teacher on a benchmark.

    Attributes:
        student, teacher: scores on the paper's scale.
        ratio: student / teacher.
        stderr: of the ratio; None: not known.
        source: file or stage that it was read from.
    """

    student: float
    teacher: float
    ratio: float
    stderr: float | None
    source: str


@dataclass(frozen=True)
class PaperMean:
    """The mean over the paper's benchmarks, as far as a run has them.

    Attributes:
        names: teacher and student.
        kept: by benchmark, those that both models have.
        missing: the others, each with the reason.
        confidence: of the interval.
        printed: what the paper prints of its own models, percent.
    """

    names: tuple[str, str]
    kept: dict[str, Kept]
    missing: dict[str, str]
    confidence: float
    printed: float

    @property
    def total(self) -> int:
        return len(self.kept) + len(self.missing)

    @property
    def mean(self) -> float | None:
        """Mean of the ratios; None of no benchmark."""
        return statistics.mean(one.ratio for one in self.kept.values()) if self.kept else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Normal interval of the mean, benchmarks independent; None where one of them has no standard error."""
        errors = [one.stderr for one in self.kept.values() if one.stderr is not None]
        if self.mean is None or len(errors) < len(self.kept):
            return None
        half = statistics.NormalDist().inv_cdf((1 + self.confidence) / 2) * math.hypot(*errors) / len(errors)
        return self.mean - half, self.mean + half

    def words(self) -> str:
        """The mean, what it covers, and the paper's figure beside it where all benchmarks are there."""
        if self.mean is None:
            return f"None of the paper's {self.total} benchmarks has both models: {self._why()}."
        covered = f"all {self.total}" if not self.missing else f"{len(self.kept)} of {self.total}"
        said = f"Mean recovery over {covered} of the paper's benchmarks: {100 * self.mean:.2f} %"
        if self.interval:
            low, high = self.interval
            said += f" ({self.confidence:.0%} interval {100 * low:.1f} to {100 * high:.1f})."
        else:
            without = ", ".join(name for name, one in self.kept.items() if one.stderr is None)
            said += f" (no interval: no standard error of {without})."
        if self.missing:
            return f"{said} Over {covered}, it cannot be compared with the paper's figure. Missing: {self._why()}."
        return f"{said} The paper prints {self.printed:.1f} % of its own models."

    def _why(self) -> str:
        return "; ".join(f"{name} ({why})" for name, why in self.missing.items())

    def block(self) -> dict[str, Any]:
        """For `summary.json`."""
        return {
            "teacher": self.names[0],
            "student": self.names[1],
            "mean": self.mean,
            "interval": self.interval,
            "benchmarks": {name: vars(one) for name, one in self.kept.items()},
            "missing": self.missing,
        }


def measure(cfg: EvalConfig, stages: Sequence[FinishedStage], others: Sequence[ExternalBenchmark]) -> PaperMean:
    """The mean of a run from its finished stages and its result files.

    Raises:
        UserError: a file is of another scale than the paper's, of other weights than the run's, or of one model a second time.
    """
    paper = paper_figures.load()
    evaluations = [stage for stage in stages if stage.recipe == "eval" and stage.summary.get("models")]
    names = _names(cfg, stages, evaluations)
    weights = {name: _weights(evaluations, name) for name in names}
    _check(others, {row["benchmark"]: row["scale"] for row in paper["final"]}, weights)
    kept: dict[str, Kept] = {}
    missing: dict[str, str] = {}
    for row in paper["final"]:
        files = [one for one in others if _same(one.benchmark, row["benchmark"])]
        found = _from_files(files, names)
        if not files and "suite" in row:
            found = _from_suite(row, evaluations, names, weights)
        if isinstance(found, Kept):
            kept[row["benchmark"]] = found
        else:
            missing[row["benchmark"]] = found
    return PaperMean(names, kept, missing, cfg.confidence, paper["mean_recovery"])


def _names(cfg: EvalConfig, stages: Sequence[FinishedStage], evaluations: list[FinishedStage]) -> tuple[str, str]:
    """Teacher and student: of the last evaluation, else of the last training."""
    if evaluations:
        last = evaluations[-1].summary
        return last.get("teacher") or cfg.teacher, last["subject"]
    trained = run_outputs.trained(list(stages))
    student = trained[-1].declared.student if trained and trained[-1].declared else None
    return cfg.teacher, student.name if student else "student"


def _weights(evaluations: list[FinishedStage], name: str) -> str | None:
    """Fingerprint of a model's weights in the last evaluation that has it."""
    blocks = [stage.summary["models"][name] for stage in evaluations if name in stage.summary["models"]]
    return blocks[-1].get("identity") if blocks else None


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.casefold()


def _check(others: Sequence[ExternalBenchmark], scales: dict[str, float], weights: dict[str, str | None]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for one in others:
        benchmark = next((name for name in scales if _same(one.benchmark, name)), None)
        if benchmark is None:
            continue
        key = f"report.results={one.file}"
        if one.scale is not None and one.scale != scales[benchmark]:
            raise UserError(
                f"{key}: {benchmark} on a scale of {one.scale:g}",
                f'expected scores as the paper has them, "scale": {scales[benchmark]:g}',
            )
        for model in one.scores:
            if (benchmark, model) in seen:
                raise UserError(
                    f"{key}: {benchmark} of {model} a second time, after {seen[benchmark, model]}", "expected one score of each"
                )
            seen[benchmark, model] = one.file
            there, here = one.weights.get(model), weights.get(model)
            if there and here and there != here:
                raise UserError(
                    f"{key}: {benchmark} of {model} is of other weights than this run's {model}",
                    f"  {there} there, {here} in the run",
                    "expected `identity` of the model in the evaluation's summary.json",
                )


def _from_files(files: list[ExternalBenchmark], names: tuple[str, str]) -> Kept | str:
    """Of result files; or why not."""
    if not files:
        return "no result file"
    sides = []
    for name in names:
        file = next((one for one in files if name in one.scores), None)
        if file is None:
            return f"no result of {name} in {', '.join(one.file for one in files)}"
        if file.scale is None:
            return f"{file.file} gives no scale"
        sides.append((file, file.scores[name]["score"], file.scores[name].get("stderr")))
    (of_teacher, teacher, spread), (of_student, student, own) = sides
    if teacher <= 0:
        return "the teacher's score is not above 0"
    ratio, error = student / teacher, None
    if spread is not None and own is not None:  # independent, to first order
        error = math.hypot(own, ratio * spread) / teacher
    unchecked = [name for name, (file, *_) in zip(names, sides, strict=True) if name not in file.weights]
    source = " and ".join(dict.fromkeys((of_teacher.file, of_student.file)))
    return Kept(student, teacher, ratio, error, f"{source}{', weights not stated' if unchecked else ''}")


def _from_suite(
    row: dict[str, Any], evaluations: list[FinishedStage], names: tuple[str, str], weights: dict[str, str | None]
) -> Kept | str:
    """Of the last evaluation on the suite that measures a benchmark; or why not."""
    stage = next((one for one in reversed(evaluations) if one.summary["suite"]["name"] == row["suite"]), None)
    if stage is None:
        return f"no result file, eval={row['suite']} not run"
    models = stage.summary["models"]
    if limit := stage.summary["suite"].get("limit"):
        return f"{stage.name} has only the first {limit} items of each task"
    tasks = yaml.safe_load((CONF / "eval" / f"{row['suite']}.yaml").read_text())["tasks"]
    if "tasks" in row:
        wanted = [task for task in tasks if fnmatch(task, row["tasks"])]
    else:
        wanted = [name for name, task in tasks.items() if task.get("baseline") is not None and task.get("average", True)]
    sides = []
    for name in names:
        if name not in models:
            return f"{stage.name} has no {name}"
        if models[name].get("identity") != weights[name]:
            return f"{stage.name} is of other weights of {name} than the last evaluation"
        if lacks := [task for task in wanted if task not in models[name]["tasks"]]:
            return f"{stage.name} lacks {len(lacks)} of {len(wanted)} tasks of {name}"
        sides.append(_score(stage, name, wanted, normalised="tasks" not in row))
    (teacher, spread), (student, own) = sides
    from nemo_plugins.evaluation import statistics as resampling  # numpy

    resampled = resampling.recovery(own, spread)
    if resampled is None or teacher <= 0:
        return "the teacher is not clearly above guessing"
    error = float(resampled.std(ddof=1))
    return Kept(
        row["times"] * student, row["times"] * teacher, student / teacher, error if math.isfinite(error) else None, stage.name
    )


def _score(stage: FinishedStage, model: str, tasks: list[str], normalised: bool) -> tuple[float, np.ndarray]:
    """Mean over tasks of a model's scores, and the same of each resample, `[resamples]`."""
    import numpy as np

    from nemo_plugins.evaluation import statistics as resampling

    values = []
    for task in tasks:
        result = json.loads((stage.folder / "results" / model / f"{task}.json").read_text())
        baseline = stage.summary["models"][model]["tasks"][task]["baseline"] if normalised else 0.0
        values.append(resampling.normalised(np.array([result["score"], *result["resampled"]]), baseline))
    means = np.mean(values, axis=0)
    return float(means[0]), means[1:]
