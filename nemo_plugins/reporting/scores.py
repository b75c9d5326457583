"""An evaluation as tables, pictures and sentences: every number with the place in `summary.json` that it is from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_plugins.evaluation import cache, run_outputs
from nemo_plugins.reporting import eval_plots
from nemo_plugins.reporting.eval_plots import Model, Point
from nemo_plugins.reporting.lineage import Rate
from nemo_plugins.reporting.page import Cell, PageTable, Part, Picture, Section, sourced
from nemo_plugins.runs.stages import by_name

SIGNIFICANT = 0.05
LONGEST = 160  # characters of an answer that is shown


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation of a run.

    Attributes:
        folder: of the stage.
        summary: its `summary.json`.
    """

    folder: Path
    summary: dict[str, Any]

    @property
    def models(self) -> dict[str, Any]:
        return self.summary["models"]

    @property
    def suite(self) -> dict[str, Any]:
        return self.summary["suite"]

    def figure(self, *keys: str | int, show: Callable[[Any], str]) -> Cell:
        """A number of the summary by its keys; a dash where it is not there or none."""
        return sourced(self.summary, self.folder.name, keys, show)


def read(run: Path) -> list[Evaluation]:
    """The evaluations of a run."""
    return [Evaluation(stage.folder, _with_sizes(stage.summary)) for stage in run_outputs.stages(run) if stage.recipe == "eval"]


def _with_sizes(summary: dict[str, Any]) -> dict[str, Any]:
    """The size of each model as it would be served, also where an older evaluation did not write it down."""
    models = {}
    for key, block in summary.get("models", {}).items():
        plain = block.get("parameters") and not block.get("quantised")
        served = (
            {"format": "bf16", "bytes": 2 * block["parameters"]} if plain else {"format": None, "bytes": block.get("bytes")}
        )
        models[key] = {"served": served, **block}
    return {**summary, "models": models}


def name(model: str) -> str:
    """A model as it is shown."""
    students = (stage.student for stage in by_name().values() if stage.student)
    return next((student.label for student in students if student.name == model and student.label), model)


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def interval(value: list[float]) -> str:
    return f"{100 * value[0]:.1f} to {100 * value[1]:.1f}"


def points(value: float) -> str:
    return f"{100 * value:+.2f}"


def p(value: float) -> str:
    return f"{value:.3f}"


def megabytes(value: float) -> str:
    return f"{value / 1e6:,.1f}"


def verdict(evaluation: Evaluation) -> str:
    """What the student keeps of its teacher, in words."""
    student = evaluation.summary["subject"]
    block = evaluation.models[student]
    teacher = block.get("against_teacher")
    if not teacher or "average" not in block:
        return f"{name(student)} on {evaluation.suite['name']}: no average to hold against a teacher."
    average = evaluation.models[evaluation.summary["teacher"]]["average"]
    mine = percent(block["average"])
    said = f"On {evaluation.suite['name']}, {name(student)} has an average of {mine}, its teacher {percent(average)}"
    if teacher["recovery_interval"] is None:
        return f"{said}; the teacher is not clearly better than guessing, so no share of it can be given."
    sure = f"{evaluation.suite['confidence']:.0%}"
    said += f": a recovery of {percent(teacher['recovery'])} % ({sure} interval {interval(teacher['recovery_interval'])})."
    if teacher["p"] < SIGNIFICANT:
        return f"{said} The difference is significant (p = {p(teacher['p'])})."
    return f"{said} On these items the difference is not significant (p = {p(teacher['p'])})."


def sections(evaluation: Evaluation, plots: Path, speeds: dict[str, Rate]) -> list[Section]:
    """The parts of the report on one suite.

    Args:
        plots: folder of the pictures.
        speeds: tokens a second by model, where they were measured in the model's format.
    """
    suite = evaluation.suite
    asked = [
        f"{suite['title'][0].upper()}{suite['title'][1:]}." if suite["title"] else "",
        f"Scores are normalised: 0 is guessing, 100 perfect. The average is over {len(suite['averaged'])} tasks. Intervals "
        f"are {suite['confidence']:.0%}, by a bootstrap over items of {suite['resamples']:,} resamples, paired between models; "
        "p is two-sided and not corrected for how many comparisons stand here.",
        f"Only the first {suite['limit']} items of each task were asked." if suite["limit"] else "",
    ]
    heading = f"Scores: {suite['name']}"
    steps = step_table(evaluation)
    parts: list[Part] = [
        *filter(None, asked),
        stage_table(evaluation),
        _format_note(evaluation),
        *([steps] if steps.rows else []),
    ]
    parts += [Picture(path, alt) for path, alt in pictures(evaluation, plots, speeds)]
    shown = [Section(heading, parts), Section(f"Tasks: {suite['name']}", [task_table(evaluation), "± is the standard error."])]
    return shown


def _format_note(evaluation: Evaluation) -> str:
    """In what sizes are compared, and which models lie on the disk in another type."""
    said = "MB are those of the format beside them: weights that are not quantised are compared in bf16."
    others = [
        f"{name(model)} is written in {block['stored_as']} ({megabytes(block['bytes'])} MB)"
        for model, block in evaluation.models.items()
        if not block.get("quantised") and block.get("stored_as") not in (None, block["served"]["format"])
    ]
    return f"{said} {'; '.join(others)}." if others else said


def stage_table(evaluation: Evaluation) -> PageTable:
    """A row for each model: size in its format, average, recovery, bits a byte."""
    text = _text_task(evaluation)
    rows = []
    for model in evaluation.models:
        at = ("models", model)
        teacher = (*at, "against_teacher")
        row: list[Cell] = [
            name(model),
            evaluation.figure(*at, "parameters", show=lambda value: f"{value:,}"),
            evaluation.models[model]["served"]["format"],
            evaluation.figure(*at, "served", "bytes", show=megabytes),
            evaluation.figure(*at, "average", show=percent),
            evaluation.figure(*at, "average_interval", show=interval),
            evaluation.figure(*teacher, "recovery", show=percent),
            evaluation.figure(*teacher, "recovery_interval", show=interval),
            evaluation.figure(*teacher, "p", show=p),
        ]
        rows.append([*row, evaluation.figure(*at, "tasks", text, "score", show=lambda value: f"{value:.4f}")] if text else row)
    header = ["model", "parameters", "format", "MB", "average", "interval", "recovery %", "interval", "p"]
    return PageTable([*header, *(["bits a byte"] if text else [])], rows)


def step_table(evaluation: Evaluation) -> PageTable:
    """A row for each stage that has one before it: what it changed, in points of the average."""
    rows: list[list[Cell]] = []
    for model, block in evaluation.models.items():
        if "against_before" in block:
            at = ("models", model, "against_before")
            rows.append(
                [
                    f"{name(block['against_before']['model'])} → {name(model)}",
                    evaluation.figure(*at, "difference", show=points),
                    evaluation.figure(*at, "difference_interval", show=interval),
                    evaluation.figure(*at, "p", show=p),
                ]
            )
    return PageTable(["step", "points", "interval", "p"], rows)


def task_table(evaluation: Evaluation) -> PageTable:
    """A row for each task: its baseline, and every model's score and error."""
    rows = []
    for task, block in evaluation.summary["tasks"].items():
        shown = with_error if block["baseline"] is not None else raw
        row: list[Cell] = [
            task,
            *(evaluation.figure("models", model, "tasks", task, show=shown) for model in evaluation.models),
        ]
        row.append(evaluation.figure("tasks", task, "baseline", show=percent))
        row.append(evaluation.figure("tasks", task, "items", show=lambda value: f"{value:,}"))
        rows.append([*row, evaluation.suite["forms"].get(task, "")])
    return PageTable(["task", *map(name, evaluation.models), "guessing", "items", "form"], rows)


def with_error(task: dict[str, Any]) -> str:
    """A score and its standard error, in percent."""
    score = percent(task["score"])
    return score if task["stderr"] is None else f"{score} ± {100 * task['stderr']:.1f}"


def raw(task: dict[str, Any]) -> str:
    """A score that is no share."""
    return f"{task['score']:.4f}"


def recovery_picture(evaluation: Evaluation, plots: Path) -> Picture | None:
    """What each student keeps of its teacher, with intervals; None where that is not known of any."""
    kept = {model: block["against_teacher"] for model, block in evaluation.models.items() if block.get("against_teacher")}
    recovered = [
        Point(name(model), 100 * block["recovery"], _percents(block["recovery_interval"]))
        for model, block in kept.items()
        if block["recovery_interval"]
    ]
    if not recovered:
        return None
    title = f"{evaluation.suite['name']}: what each stage keeps of the teacher"
    path = plots / f"{evaluation.folder.name}-recovery.png"
    return Picture(eval_plots.intervals(path, recovered, title, "student / teacher (%)", (100, "teacher")), title)


def pictures(evaluation: Evaluation, plots: Path, speeds: dict[str, Rate]) -> list[tuple[Path, str]]:
    """Further pictures of a suite, with what each shows: averages, size against quality."""
    stem = evaluation.folder.name
    have = {model: block for model, block in evaluation.models.items() if "average" in block}
    if not have:
        return []
    teacher = evaluation.summary["teacher"]
    title = f"{evaluation.suite['name']}: average of {len(evaluation.suite['averaged'])} tasks"
    shown = [
        Point(name(model), 100 * block["average"], _percents(block["average_interval"]), model == teacher)
        for model, block in have.items()
    ]
    drawn = [
        (eval_plots.intervals(plots / f"{stem}-average.png", shown, title, "normalised score (%)", (0, "guessing")), title)
    ]
    sizes = {key: block["served"]["bytes"] for key, block in have.items()}
    unit, scale = ("GB", 1e9) if max(sizes.values()) > 1e9 else ("MB", 1e6)
    models = [
        Model(
            name(key),
            sizes[key] / scale,
            100 * block["average"],
            _percents(block["average_interval"]),
            speeds[key].tokens_per_second if key in speeds else None,
            speeds[key].how if key in speeds else "",
        )
        for key, block in have.items()
    ]
    title = f"{evaluation.suite['name']}: quality against size" + (" and speed" if speeds else "; speed was not measured")
    drawn.append((eval_plots.scatter(plots / f"{stem}-size.png", models, title, unit), title))
    return drawn


def generations(evaluation: Evaluation, count: int) -> list[Section]:
    """The same questions answered by every model, side by side: the first of each task that is answered in writing."""
    free = [task for task in evaluation.summary["tasks"] if evaluation.suite["forms"].get(task) == "free"]
    if not free or not count:
        return []
    said = {model: {task: _samples(evaluation, model, task) for task in free} for model in evaluation.models}
    rows = []
    for number in range(count):
        task, index = free[number % len(free)], number // len(free)
        first = next(iter(said.values()))[task]
        if index >= len(first):
            continue
        question = _question(first[index])
        answers = [_answer(said[model][task], index) for model in evaluation.models]
        rows.append([question, str(first[index]["target"]), *answers])
    if not rows:
        return []
    header = ["question", "expected", *map(name, evaluation.models)]
    return [Section(f"Answers side by side: {evaluation.suite['name']}", [PageTable(header, rows)])]


def _samples(evaluation: Evaluation, model: str, task: str) -> list[dict[str, Any]]:
    path = evaluation.folder / "samples" / model / f"{task}.jsonl.gz"
    return cache.read_samples(path) if path.is_file() else []


def _question(sample: dict[str, Any]) -> str:
    """What was asked, without the control tokens of a chat."""
    document = sample["doc"]
    for key in ("free", "question", "prompt"):
        if isinstance(document.get(key), str):
            return _short(document[key])
    return _short(sample["arguments"][0][0][-LONGEST:])


def _answer(samples: list[dict[str, Any]], index: int) -> str:
    if index >= len(samples):
        return "–"
    said = samples[index]["resps"][0][0]
    return _short(said if isinstance(said, str) else json.dumps(said)) or "(nothing)"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _text_task(evaluation: Evaluation) -> str | None:
    """The task that measures bits a byte."""
    return next((key for key, task in evaluation.summary["tasks"].items() if task["metric"].startswith("bits_per_byte")), None)


def _percents(value: list[float] | None) -> tuple[float, float] | None:
    return None if value is None else (100 * value[0], 100 * value[1])
