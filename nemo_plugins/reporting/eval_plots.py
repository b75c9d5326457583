"""The pictures of an evaluation, each as PNG and SVG: scores of the stages, recovery, and quality against size and speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from nemo_plugins.reporting.plots import BASELINE, DROPPED, KEPT, plain, write_png
from nemo_plugins.runs.atomic import whole_file

LABEL = 0.2  # inches from one label of the scatter to the next
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Point:
    """A model of a picture: a share with its interval, both in percent; `grey` for one that is quoted or the reference."""

    name: str
    value: float
    interval: Interval = None
    grey: bool = False


def write(figure, path: Path) -> Path:
    """Write `<path>.svg` beside the PNG. Returns the PNG's path."""
    settings = {"svg.hashsalt": path.stem, "svg.fonttype": "none"}
    with matplotlib.rc_context(settings), whole_file(path.with_suffix(".svg")) as partial:
        figure.savefig(partial, bbox_inches="tight", format="svg", metadata={"Date": None})
    return write_png(figure, path)


def intervals(path: Path, points: Sequence[Point], title: str, label: str, line: tuple[float, str] | None = None) -> Path:
    """A row for each model: its value and interval; `line` is a value that all are held against, and what it is."""
    figure, axes = pyplot.subplots(figsize=(6, 0.45 * len(points) + 1.4))
    for place, point in enumerate(points):
        colour = BASELINE if point.grey else KEPT
        if point.interval:
            axes.plot(point.interval, [place, place], color=colour, linewidth=2.5, solid_capstyle="butt", alpha=0.6)
        axes.plot([point.value], [place], marker="o", color=colour)
        axes.annotate(
            f"{point.value:.1f}", (point.value, place), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8
        )
    if line:
        axes.axvline(line[0], color=DROPPED, linestyle="--", linewidth=1)
        axes.annotate(
            plain(line[1]), (line[0], -0.75), xytext=(3, 0), textcoords="offset points", fontsize=8, color=DROPPED, va="center"
        )
    axes.set_yticks(range(len(points)), [plain(point.name) for point in points])
    axes.set_ylim(len(points) - 0.4, -1)
    axes.set_xlabel(plain(label))
    axes.set_title(plain(title), loc="left")
    axes.grid(axis="x", alpha=0.25)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return write(figure, path)


@dataclass(frozen=True)
class Model:
    """A model of the scatter: size in GB or MB, quality in percent, tokens a second where they were measured, and in what."""

    name: str
    size: float
    quality: float
    interval: Interval = None
    speed: float | None = None
    timed_in: str = ""


def scatter(path: Path, models: Sequence[Model], title: str, unit: str) -> Path:
    """Quality against the size of the weights; a mark is the larger the faster the model answers, where that is known."""
    return write(draw_scatter(models, title, unit)[0], path)


def draw_scatter(models: Sequence[Model], title: str, unit: str) -> tuple:
    """The figure of `scatter`, and its labels: one below the other on the right, a thin line from each to its mark."""
    height = max(3.8, LABEL * len(models) + 1.0)
    figure, axes = pyplot.subplots(figsize=(7.5, height))
    figure.subplots_adjust(left=0.09, right=0.62, top=1 - 0.35 / height, bottom=0.55 / height)
    fastest = max((model.speed for model in models if model.speed), default=None)
    for model in models:
        if model.interval:
            axes.plot([model.size, model.size], model.interval, color=KEPT, alpha=0.35, linewidth=2)
        area = 60 if not (fastest and model.speed) else 40 + 260 * model.speed / fastest
        axes.scatter([model.size], [model.quality], s=area, color=KEPT, alpha=0.8, zorder=3)
    axes.margins(0.08)
    low, high = axes.get_ylim()
    step = LABEL / (height - 0.9)  # of the axes' height
    wanted = [(model.quality - low) / (high - low) for model in models]
    labels = []
    for model, at in zip(models, spread(wanted, step), strict=True):
        said = model.name
        if model.speed is not None:
            said += f", {model.speed:,.0f} tokens/s" + (f" ({model.timed_in})" if model.timed_in else "")
        labels.append(
            axes.annotate(
                plain(said),
                (model.size, model.quality),
                xytext=(1.05, at),
                textcoords="axes fraction",
                fontsize=8,
                va="center",
                arrowprops={"arrowstyle": "-", "color": BASELINE, "linewidth": 0.6, "relpos": (0, 0.5)},
                annotation_clip=False,
            )
        )
    axes.set(xlabel=f"weights ({unit}; in bf16 where not quantised)", ylabel="average (normalised, %)")
    axes.set_title(plain(title), loc="left")
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, labels


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places within 0 and 1 as near as may be to those given, in their order, at least `gap` apart (`gap` small enough)."""
    order = sorted(range(len(places)), key=lambda number: places[number])
    blocks: list[list[float]] = []  # [sum of wanted starts, members]: members stand `gap` apart from the start on
    for number in order:
        blocks.append([places[number], 1])
        while len(blocks) > 1 and _start(blocks[-2], gap) + blocks[-2][1] * gap > _start(blocks[-1], gap):
            wanted, count = blocks.pop()
            before = blocks[-1]
            blocks[-1] = [before[0] + wanted - count * before[1] * gap, before[1] + count]
    heights = [0.0] * len(places)
    at = iter(order)
    for block in blocks:
        for member in range(int(block[1])):
            heights[next(at)] = _start(block, gap) + member * gap
    return heights


def _start(block: list[float], gap: float) -> float:
    wanted, count = block
    return min(max(wanted / count, 0.0), 1.0 - (count - 1) * gap)
