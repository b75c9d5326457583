"""From results to what `summary.json` says of each model: scores, averages, recovery, and what is a difference at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nemo_plugins.configs.schema import EvalConfig, TaskConfig
from nemo_plugins.evaluation import statistics
from nemo_plugins.evaluation.cache import Result

Results = Mapping[str, Result]  # by task


def task_block(config: TaskConfig, result: Result, confidence: float) -> dict[str, Any]:
    """One task of one model: `score`, `stderr`, `baseline`, `normalised`, and the interval of the score."""
    between = statistics.interval(np.array(result.resampled), confidence)
    baseline = config.baseline
    return {
        "score": result.score,
        "stderr": result.stderr,
        "baseline": baseline,
        "normalised": None if baseline is None else statistics.normalised(result.score, baseline),
        "interval": between,
        "items": result.items,
        "metric": config.metric,
    }


def averaged(cfg: EvalConfig, results: Mapping[str, Results]) -> list[str]:
    """The tasks of a suite's average: those with a baseline, and with a result of every model so that all average the same."""
    return [
        name
        for name, task in cfg.tasks.items()
        if task.baseline is not None and task.average and results and all(name in mine for mine in results.values())
    ]


def average(cfg: EvalConfig, mine: Results, tasks: list[str]) -> tuple[float, np.ndarray] | None:
    """Mean normalised score over tasks, and the same of each resample; None of no tasks."""
    if not tasks:
        return None
    baselines = {name: baseline for name in tasks if (baseline := cfg.tasks[name].baseline) is not None}
    score = np.mean([statistics.normalised(mine[name].score, baseline) for name, baseline in baselines.items()])
    each = [statistics.normalised(np.array(mine[name].resampled), baseline) for name, baseline in baselines.items()]
    return float(score), np.mean(each, axis=0)


def against(student: tuple[float, np.ndarray], other: tuple[float, np.ndarray], confidence: float) -> dict[str, Any]:
    """Two models' scores on the same items: difference with interval and significance, ratio with interval."""
    difference = student[1] - other[1]
    ratio = statistics.recovery(student[1], other[1])
    return {
        "difference": student[0] - other[0],
        "difference_interval": statistics.interval(difference, confidence),
        "p": statistics.p_value(difference),
        "recovery": None if ratio is None else student[0] / other[0],
        "recovery_interval": None if ratio is None else statistics.interval(ratio, confidence),
    }


def subject(cfg: EvalConfig, models: Mapping[str, dict]) -> str:
    """The model that an evaluation is about: the last student that is not quantised, or the last model where there is none."""
    last = next((name for name in reversed(list(models)) if name != cfg.teacher and not models[name].get("quantised")), None)
    return last or list(models)[-1]


def models_block(cfg: EvalConfig, results: Mapping[str, Results], described: Mapping[str, dict]) -> dict[str, Any]:
    """All models: what they are, their tasks and average, and each against the teacher and against the model before it.

    A quantised model is held against the weights that it was made from, and those of the teacher only against the teacher.

    Args:
        results: by model, in the order of the chain.
        described: by model, what it is besides its scores.
    """
    common = averaged(cfg, results)
    averages = {name: average(cfg, mine, common) for name, mine in results.items()}
    block_of_model: dict[str, Any] = {}
    before = None
    for name, mine in results.items():
        block: dict[str, Any] = {**described.get(name, {})}
        block["tasks"] = {task: task_block(cfg.tasks[task], result, cfg.confidence) for task, result in mine.items()}
        if own := averages[name]:
            score, spread = own
            block |= {"average": score, "average_interval": statistics.interval(spread, cfg.confidence)}
            if (teachers := averages.get(cfg.teacher)) and name != cfg.teacher:
                block["against_teacher"] = against(own, teachers, cfg.confidence)
                block["against_teacher"]["tasks"] = per_task(cfg, mine, results[cfg.teacher])
            previous = averages[before] if before else None
            if previous and cfg.teacher not in (before, name) and not name.startswith(f"{cfg.teacher}-"):
                block["against_before"] = {"model": before, **against(own, previous, cfg.confidence)}
        block_of_model[name] = block
        before = before if block.get("quantised") else name
    return block_of_model


def per_task(cfg: EvalConfig, mine: Results, other: Results) -> dict[str, Any]:
    """Difference of each task that both models have."""
    tasks_of = {}
    for name in mine:
        if name in other:
            pair = [(result.score, np.array(result.resampled)) for result in (mine[name], other[name])]
            difference = pair[0][1] - pair[1][1]
            tasks_of[name] = {
                "difference": pair[0][0] - pair[1][0],
                "interval": statistics.interval(difference, cfg.confidence),
                "p": statistics.p_value(difference),
            }
    return tasks_of
