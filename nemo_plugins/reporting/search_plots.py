"""The pictures of a search over students: loss against size, and whether the cheap ranking held."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib import pyplot
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from nemo_plugins.reporting.plots import BASELINE, DROPPED, KEPT, plain, write_png

Point = tuple[float, float]

DISTILLED = "#d08c1d"
# where a label may go, nearest first: points right and up of its point, and its alignment
PLACES = [
    (away * right, away * up, ("right", "center", "left")[right + 1], ("top", "center", "bottom")[up + 1])
    for away in (6, 16, 28)
    for right, up in ((1, 1), (1, -1), (-1, -1), (-1, 1), (0, 1), (0, -1), (1, 0), (-1, 0))
]


def pareto(
    path: Path,
    parameters: Sequence[int],
    losses: Sequence[float],
    names: Sequence[str],
    front: set[str],
    kept: set[str],
    teacher: tuple[int, float],
    distilled: Mapping[str, float] | None = None,
) -> Path:
    """Held-out loss against parameters, one point a candidate; those of the front and the distilled ones bear their number.

    Args:
        parameters, losses, names: of the candidates, numbered from 1; losses in nats a token, before distillation.
        front: names on the Pareto front.
        kept: names that were taken on to distillation.
        teacher: its parameters and loss.
        distilled: name → loss after the short distillation.
    """
    distilled = distilled or {}
    divisor, unit = _unit(max(parameters))
    points = {name: (size / divisor, loss) for name, size, loss in zip(names, parameters, losses, strict=True)}
    figure, axes = pyplot.subplots(figsize=(8.5, 4.8))
    steps = sorted(points[name] for name in points if name in front)
    if steps:
        axes.step(*zip(*steps, strict=True), where="post", color=DROPPED, linewidth=1.2, label="Pareto front", zorder=1)
    for label, colour, chosen in (("candidate", BASELINE, False), ("candidate, kept for distillation", KEPT, True)):
        shown = [point for name, point in points.items() if (name in kept) is chosen]
        if shown:
            axes.scatter(*zip(*shown, strict=True), color=colour, s=28, label=label, zorder=2)
    after = {name: (points[name][0], loss) for name, loss in distilled.items() if name in points}
    if after:
        axes.vlines(
            [x for x, _ in after.values()],
            [y for _, y in after.values()],
            [points[name][1] for name in after],
            color=DISTILLED,
            linewidth=1,
            zorder=1,
        )
        axes.scatter(*zip(*after.values(), strict=True), color=DISTILLED, marker="D", s=32, label="distilled", zorder=3)
    # a line and not a point: half as large again, it would press the candidates together at the left
    teacher_label = f"teacher: {teacher[0] / divisor:.4g}{unit}, loss {teacher[1]:.3f}"
    axes.axhline(teacher[1], color="black", linestyle="--", linewidth=1, label=teacher_label, zorder=1)
    axes.set(xlabel=f"parameters,{unit}" if unit else "parameters", ylabel="held-out loss (nats a token)")
    axes.margins(0.09)
    axes.set_title("what a student costs and what it loses", loc="left")
    # numbers, with a key: names are as long as the distance between many points
    numbered = {name: str(number) for number, name in enumerate(points, 1) if name in front or name in after}
    for name, number in numbered.items():
        axes.plot([], [], " ", label=plain(f"{number}  {name}"))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize="small")
    lines = [(points[name], point) for name, point in after.items()]
    for (x, y), (next_x, next_y) in pairwise(steps):
        lines += [((x, y), (next_x, y)), ((next_x, y), (next_x, next_y))]
    # a distilled candidate is numbered where it ended, the front's others where they are
    labels = {number: after.get(name, points[name]) for name, number in numbered.items()}
    _label(axes, labels, [*points.values(), *after.values()], lines)
    return write_png(figure, path)


def ranks(path: Path, before: Mapping[str, float], after: Mapping[str, float], correlation: float | None) -> Path:
    """Loss of each candidate before and after its short distillation: where the ranking held, the points climb.

    Args:
        before, after: name → held-out loss in nats a token; those in both are drawn.
        correlation: Spearman's, for the title.
    """
    points = {name: (before[name], after[name]) for name in before if name in after}
    figure, axes = pyplot.subplots(figsize=(6.5, 4.4))
    axes.scatter(*zip(*points.values(), strict=True), color=KEPT, s=36, zorder=2)
    axes.set(xlabel="held-out loss after pruning (nats a token)", ylabel="after the short distillation")
    axes.margins(0.14)
    agreement = "undefined" if correlation is None else f"{correlation:.2f}"
    axes.set_title(f"does the cheap ranking hold? Spearman {agreement}, {len(points)} candidates", loc="left")
    _label(axes, points, list(points.values()))
    return write_png(figure, path)


def _unit(largest: int) -> tuple[float, str]:
    for divisor, name in ((1e9, " billions"), (1e6, " millions"), (1e3, " thousands")):
        if largest >= divisor:
            return divisor, name
    return 1.0, ""


def _label(axes, named: Mapping[str, Point], points: Sequence[Point], lines: Sequence[tuple[Point, Point]] = ()) -> None:
    """Name points where no other label or point is, best ones (lowest) first; far labels get a thin line.

    Args:
        named: label → its point.
        points: all points, which no label may cover.
        lines: upright and level lines, which a label had better not cover.
    """
    figure = axes.figure
    figure.canvas.draw()  # positions are known from here on
    renderer, inside = figure.canvas.get_renderer(), axes.get_window_extent()
    places = axes.transData.transform(list(points))
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in places]
    crossed = [Bbox(axes.transData.transform(line)) for line in lines]
    for name, point in sorted(named.items(), key=lambda item: item[1][1]):
        at = axes.transData.transform(point)
        best: tuple[tuple[int, bool, int], Text, Bbox] | None = None
        for dx, dy, horizontal, vertical in PLACES:
            text = axes.annotate(
                plain(name),
                point,
                (dx, dy),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=8,
                arrowprops={"arrowstyle": "-", "color": BASELINE, "linewidth": 0.6} if max(abs(dx), abs(dy)) > 6 else None,
            )
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # of the text alone: an annotation's own has its line too
            covers = sum(box.overlaps(other) for other in taken) + 2 * (not _within(box, inside))
            astray = any(_distance(box, other) < _distance(box, at) for other in places)  # it would name another point
            hits = (covers, astray, sum(box.overlaps(other) for other in crossed))
            if best is not None and hits >= best[0]:
                text.remove()
                continue
            if best is not None:
                best[1].remove()
            best = (hits, text, box)
            if not any(hits):
                break
        if best is None:
            continue
        if best[0][0]:  # a name that cannot be read only hides another one; the table has it
            best[1].remove()
        else:
            taken.append(best[2])


def _distance(box: Bbox, point: Sequence[float]) -> float:
    """From the middle of a box, in pixels."""
    return math.hypot((box.x0 + box.x1) / 2 - point[0], (box.y0 + box.y1) / 2 - point[1])


def _within(box: Bbox, outer: Bbox) -> bool:
    return outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1
