"""The pictures of an evaluation, each as PNG and SVG: scores of the stages, recovery, and quality against size and speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from nemo_plugins.reporting.plots import BASELINE, DROPPED, KEPT, plain, write_png

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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.svg")
    with matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(partial, bbox_inches="tight", format="svg", metadata={"Date": None})
    partial.replace(path.with_suffix(".svg"))
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
    """A model of the scatter: size in GB or MB, quality in percent, tokens a second where they were measured."""

    name: str
    size: float
    quality: float
    interval: Interval = None
    speed: float | None = None


def scatter(path: Path, models: Sequence[Model], title: str, unit: str) -> Path:
    """Quality against the size of the weights; a mark is the larger the faster the model answers, where that is known."""
    figure, axes = pyplot.subplots(figsize=(6, 3.8))
    fastest = max((model.speed for model in models if model.speed), default=None)
    for number, model in enumerate(models):
        if model.interval:
            axes.plot([model.size, model.size], model.interval, color=KEPT, alpha=0.35, linewidth=2)
        area = 60 if not (fastest and model.speed) else 40 + 260 * model.speed / fastest
        axes.scatter([model.size], [model.quality], s=area, color=KEPT, alpha=0.8, zorder=3)
        said = model.name if model.speed is None else f"{model.name}, {model.speed:,.0f} tokens/s"
        axes.annotate(
            plain(said),
            (model.size, model.quality),
            xytext=(9, 4 if number % 2 else -9),
            textcoords="offset points",
            fontsize=8,
        )
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + 0.3 * (right - left))  # room for names
    axes.set(xlabel=f"weights ({unit}; in bf16 where not quantised)", ylabel="average (normalised, %)")
    axes.set_title(plain(title), loc="left")
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return write(figure, path)
