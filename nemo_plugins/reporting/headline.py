"""The five figures that a run comes to, each in plain words: size, speed, recovery, loss recovered, time.

Only `summary.json` files are read, so that a terminal and a page that show them show the same. Imports no torch, no matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_plugins.evaluation import run_outputs
from nemo_plugins.evaluation.run_outputs import FinishedStage
from nemo_plugins.reporting import heldout_losses
from nemo_plugins.runs import output

BF16 = 2  # bytes a parameter
BACKENDS = {"llama_cpp": "llama.cpp"}  # as they are shown


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: what it is of, e.g. `size`.
        value: in a few characters, e.g. `32 % smaller`.
        meaning: a sentence without a full stop that says what the value compares.
        sources: where its numbers are written, e.g. `eval/summary.json#/models/sft/average`.
    """

    name: str
    value: str
    meaning: str
    sources: tuple[str, ...] = ()


def of(run_folder: Path) -> list[Figure]:
    """The figures of a run; one whose stages are not finished is left out."""
    stages = run_outputs.stages(run_folder)
    figures = [_size(stages), _speed(stages), _recovery(stages), _loss(stages), _time(run_folder)]
    return [figure for figure in figures if figure]


def losses(stages: list[FinishedStage]) -> tuple[dict[str, float], tuple[str, ...]] | None:
    """Held-out loss of `teacher`, `pruned` and `distilled`, nats a token, and where they are written."""
    latest = {recipe: stage for recipe in ("prune", "distill") if (stage := _last(stages, recipe))}
    summaries = {recipe: stage.summary for recipe, stage in latest.items()}
    values = heldout_losses.losses(summaries)
    if not values.keys() >= {"teacher", "pruned", "distilled"}:
        return None
    places = heldout_losses.places(summaries).values()
    return values, tuple(place(latest[recipe].name, "metrics", metric) for recipe, metric in places)


def _size(stages: list[FinishedStage]) -> Figure | None:
    """Both models in bf16, in whatever type their files are."""
    counts: dict[str, int | None] = {}
    sources: tuple[str, ...] = ()
    if (evaluated := _evaluated(stages, lambda block: block.get("parameters"))) is not None:
        evaluation, names = evaluated
        counts = {role: evaluation.summary["models"][name]["parameters"] for role, name in names.items()}
        sources = tuple(place(evaluation.name, "models", name, "parameters") for name in names.values())
    elif (prune := _last(stages, "prune")) is not None:
        counts = {role: (prune.summary.get(role) or {}).get("parameters") for role in ("teacher", "student")}
        sources = tuple(place(prune.name, role, "parameters") for role in counts)
    sizes = {role: BF16 * count for role, count in counts.items() if count}
    if len(sizes) < 2:
        return None
    teacher, student = sizes["teacher"], sizes["student"]
    change = student / teacher - 1
    value = f"{abs(change):.1%} {'larger' if change > 0 else 'smaller'}".replace("%", " %")
    unit, scale = ("GB", 1e9) if teacher >= 1e9 else ("MB", 1e6)
    meaning = f"the student has {student / scale:,.1f} {unit}, its teacher {teacher / scale:,.1f} {unit}, both in bf16"
    return Figure("size", value, meaning, sources)


def _speed(stages: list[FinishedStage]) -> Figure | None:
    """Decoding in the first format that was timed, one stream."""
    bench = _last([stage for stage in stages if stage.summary.get("rows")], "bench")
    if bench is None:
        return None
    rows = [
        (number, row)
        for number, row in enumerate(bench.summary["rows"])
        if row["sequences"] == 1 and not row.get("extrapolated")
    ]
    for _, first in rows:
        alike = [(number, row) for number, row in rows if _timed_alike(row, first)]
        pair = {row["model"]: (number, row) for number, row in reversed(alike)}
        if not {"teacher", "student"} <= pair.keys():
            continue
        each = {role: pair[role][1]["each"]["median"] for role in ("teacher", "student")}
        rate = {role: pair[role][1]["tokens_per_second"]["median"] for role in each}
        how = " ".join([BACKENDS.get(first["backend"], first["backend"]), first.get("format", "").upper()]).strip()
        meaning = (
            f"a further token takes {1e3 * each['student']:,.3g} ms, the teacher's {1e3 * each['teacher']:,.3g} ms "
            f"({how}, one stream); with the prompt {rate['student'] / rate['teacher']:.2f} ×"
        )
        sources = tuple(place(bench.name, "rows", pair[role][0], "each", "median") for role in each)
        return Figure("speed", f"{each['teacher'] / each['student']:.2f} × as fast", meaning, sources)
    return None


def _timed_alike(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(row.get(key) == other.get(key) for key in ("backend", "format"))


def _recovery(stages: list[FinishedStage]) -> Figure | None:
    evaluated = _evaluated(stages, lambda block: "average" in block)
    if evaluated is None:
        return None
    evaluation, names = evaluated
    against = evaluation.summary["models"][names["student"]].get("against_teacher") or {}
    if not against.get("recovery_interval"):  # the teacher is not clearly better than guessing
        return None
    suite, (low, high) = evaluation.summary["suite"], against["recovery_interval"]
    tasks = len(suite.get("averaged", ()))
    asked = f"{tasks} task{'' if tasks == 1 else 's'}"
    meaning = (
        f"of the teacher's score is kept, {suite['confidence']:.0%} interval {100 * low:.1f} to {100 * high:.1f} "
        f"({names['student']} on {suite['name']}, {asked})"
    ).replace("% interval", " % interval")
    its = ("models", names["student"], "against_teacher")
    sources = tuple(place(evaluation.name, *its, key) for key in ("recovery", "recovery_interval"))
    return Figure("recovery", f"{100 * against['recovery']:.1f} %", meaning, sources)


def _loss(stages: list[FinishedStage]) -> Figure | None:
    if (measured := losses(stages)) is None:
        return None
    values, sources = measured
    share = heldout_losses.recovered(**values)
    if share is None:
        return None
    meaning = (
        f"of the held-out loss that pruning cost is won back by distillation: {values['pruned']:.3f} after pruning, "
        f"{values['distilled']:.3f} distilled, {values['teacher']:.3f} the teacher's"
    )
    return Figure("loss recovered", f"{100 * share:.1f} %", meaning, sources)


def _time(run_folder: Path) -> Figure | None:
    """All stages of the run and of the runs in it. Reports do not count: the figure is the same before and after they exist."""
    folders = [run_folder, *sorted(path for path in run_folder.iterdir() if path.is_dir())] if run_folder.is_dir() else []
    done = [stage for folder in folders for stage in run_outputs.stages(folder) if stage.recipe != "report"]
    seconds = [stage.summary["seconds"] for stage in done if "seconds" in stage.summary]
    if not seconds:
        return None
    count = f"all {len(seconds)} stages" if len(seconds) > 1 else "one stage"
    return Figure("time", output.duration(sum(seconds)), f"of {count}")


def _evaluated(
    stages: list[FinishedStage], usable: Callable[[dict[str, Any]], Any]
) -> tuple[FinishedStage, dict[str, str]] | None:
    """The last evaluation that has teacher and student, and their names in it.

    Args:
        usable: whether a model's block has what is asked for.
    """
    for stage in reversed(stages):
        if stage.recipe == "eval":
            models = stage.summary.get("models", {})
            names = {"teacher": stage.summary.get("teacher", ""), "student": stage.summary.get("subject", "")}
            if names["teacher"] != names["student"] and all(usable(models.get(name) or {}) for name in names.values()):
                return stage, names
    return None


def _last(stages: list[FinishedStage], recipe: str) -> FinishedStage | None:
    return next((stage for stage in reversed(stages) if stage.recipe == recipe), None)


def place(stage: str, *keys: str | int) -> str:
    """A number of a stage's summary as file and JSON pointer (RFC 6901)."""
    return f"{stage}/summary.json#/{'/'.join(str(key).replace('~', '~0').replace('/', '~1') for key in keys)}"
