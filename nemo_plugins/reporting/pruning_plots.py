"""The pictures of a pruning besides `plots.layers`: what each width is worth, and whether the measurement can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot
from matplotlib.colors import LogNorm
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter, ScalarFormatter

from nemo_plugins.reporting.plots import BASELINE, DROPPED, KEPT, plain, write_png

if TYPE_CHECKING:
    from nemo_plugins.pruning.stability import Stability

LINES = (KEPT, DROPPED, "#7a5195", "#8a8b2d", "#3f4a56")
MARKERS = "osD^v"
BINS = 512  # columns of the heatmap; more than a screen shows


def removals(path: Path, baseline: float, runs: Mapping[tuple[int, int], float], chosen: tuple[int, int] | None = None) -> Path:
    """Held-out loss after removing each run of neighbouring layers, one line a length of the run.

    Args:
        baseline: loss with all layers, nats a token.
        runs: (first, last) layer of the run, from 0 and both removed, to the loss without them; drawn from 1.
        chosen: the run that was taken out.
    """
    figure, axes = pyplot.subplots(figsize=(max(6, min(12, 0.22 * len(runs))), 3.4))
    lengths = sorted({last - first + 1 for first, last in runs})
    colours = [KEPT] if len(lengths) == 1 else pyplot.get_cmap("viridis")(np.linspace(0, 0.85, len(lengths)))
    for length, colour in zip(lengths, colours, strict=True):
        points = sorted((first + 1, loss) for (first, last), loss in runs.items() if last - first + 1 == length)
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=f"{_layers(length)} removed")
    axes.axhline(baseline, color=BASELINE, linestyle="--", label=f"all layers ({baseline:.3f})")
    if chosen and chosen in runs:
        label = f"chosen: {chosen[0] + 1}–{chosen[1] + 1} ({runs[chosen]:.3f})"
        axes.plot(chosen[0] + 1, runs[chosen], "o", color=DROPPED, markersize=10, label=label, zorder=3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="first layer removed (from 1)", ylabel="held-out loss (nats a token)")
    axes.set_title("loss after removing neighbouring layers", loc="left")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small")
    return write_png(figure, path)


def distribution(path: Path, scores: np.ndarray, kept_share: float, what: str) -> Path:
    """How importance is distributed within each layer, on a log scale, and where it was cut.

    Args:
        scores: [layers, n], not negative; one row is drawn as a histogram, several as a box a layer.
        kept_share: share of each row that is kept, the highest ones; 1: no cut is drawn.
        what: e.g. "FFN neurons".
    """
    values = _positive(scores)
    cuts = np.quantile(values, 1 - kept_share, axis=1) if kept_share < 1 else None
    figure, axes = pyplot.subplots(figsize=(max(6, min(12, 0.24 * len(values))), 3.4))
    if len(values) == 1:
        edges = np.geomspace(values.min(), values.max() * (1 + 1e-9), 61)
        row = values[0]
        if cuts is None:
            axes.hist(row, edges, color=KEPT)
        else:
            low, high = row[row < cuts[0]], row[row >= cuts[0]]
            labels = [f"dropped ({len(low):,})", f"kept ({len(high):,})"]
            axes.hist([low, high], edges, stacked=True, color=[DROPPED, KEPT], label=labels)
            axes.legend(frameon=False)
        axes.set(xscale="log", xlabel="importance, log scale", ylabel="number")
    else:
        marks = np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99], axis=1).T
        names = ("whislo", "q1", "med", "q3", "whishi")
        axes.bxp(
            [dict(zip(names, row, strict=True)) for row in marks],
            positions=range(1, len(values) + 1),
            widths=0.6,
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": KEPT, "edgecolor": KEPT, "alpha": 0.6},
            medianprops={"color": "white", "linewidth": 1.5},
            whiskerprops={"color": KEPT},
            capprops={"color": KEPT},
        )
        if cuts is not None:
            places = np.arange(1, len(values) + 1)
            axes.hlines(cuts, places - 0.45, places + 0.45, color=DROPPED, linewidth=2, zorder=3)
            axes.plot([], [], color=DROPPED, linewidth=2, label=f"below: dropped ({1 - kept_share:.1%})")
            axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(yscale="log", xlabel="layer (from 1)", ylabel="importance, log scale", xlim=(0.2, len(values) + 0.8))
    axes.set_title(plain(what), loc="left")
    return write_png(figure, path)


def heatmap(path: Path, scores: np.ndarray, what: str) -> Path:
    """Importance within each layer, sorted, over the layer's mean; at most `BINS` columns, each the mean of its share.

    Args:
        scores: [layers, n], not negative.
    """
    ordered = -np.sort(-_positive(scores), axis=1)
    ordered /= ordered.mean(axis=1, keepdims=True)
    count = ordered.shape[1]
    edges = np.linspace(0, count, min(BINS, count) + 1).astype(int)
    binned = np.add.reduceat(ordered, edges[:-1], axis=1) / np.diff(edges)
    low, high = np.quantile(binned, [0.005, 0.995])
    figure, axes = pyplot.subplots(figsize=(8, max(2.2, min(6, 0.11 * len(binned) + 1))))
    norm = LogNorm(low, high) if high > low else None
    shown = axes.imshow(
        binned, aspect="auto", cmap="viridis", norm=norm, extent=(0, 100, len(binned) + 0.5, 0.5), interpolation="nearest"
    )
    figure.colorbar(shown, ax=axes, label="importance / layer's mean", pad=0.02)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=plain(f"{what} from the most important (%)"), ylabel="layer (from 1)")
    axes.set_title(plain(f"{what}: how unequal each layer is"), loc="left")
    return write_png(figure, path)


def agreement(path: Path, matrix: np.ndarray, names: Sequence[str]) -> Path:
    """Spearman correlation between the criteria's rankings of the layers.

    Args:
        matrix: [k, k], symmetric; not a number where it is undefined.
        names: k criteria.
    """
    matrix = np.asarray(matrix, dtype=float)
    labels = [plain(name) for name in names]
    figure, axes = pyplot.subplots(figsize=(2.4 + 0.9 * len(labels), 1.4 + 0.8 * len(labels)))
    shown = axes.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
    for row, column in np.ndindex(matrix.shape):
        value = matrix[row, column]
        text, dark = (f"{value:.2f}", abs(value) > 0.6) if np.isfinite(value) else ("–", False)
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    figure.colorbar(shown, ax=axes, label="Spearman correlation", fraction=0.046, pad=0.04)
    axes.set_title("do the criteria agree?", loc="left")
    return write_png(figure, path)


def stability(path: Path, measured: Stability) -> Path:
    """Agreement of two disjoint sets of n samples, by n: of their rankings, and of what they would keep."""
    panels: list[tuple[str, dict[str, list[float]], float | None]] = [("Spearman correlation", measured.correlation, 0.95)]
    if measured.overlap:
        panels.append(("kept by both", measured.overlap, None))
    figure, row = pyplot.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.4), squeeze=False, layout="constrained")
    names = list(measured.correlation)
    for axes, (label, curves, line) in zip(row[0], panels, strict=True):
        for name, values in curves.items():
            place = names.index(name)
            colour, marker = LINES[place % len(LINES)], MARKERS[place % len(MARKERS)]
            axes.plot(measured.samples, values, color=colour, marker=marker, markersize=5, label=plain(name))
        if line:
            axes.axhline(line, color=BASELINE, linestyle="--", linewidth=1, label=f"{line:g}")
        else:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        if max(measured.samples) >= 16 * min(measured.samples):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_major_locator(FixedLocator(measured.samples[:: -(-len(measured.samples) // 8)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="samples of each set, n", ylabel=label)
    figure.suptitle("two disjoint sets of n samples each", x=0.01, ha="left", fontsize="large")
    handles, labels = row[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)
    return write_png(figure, path)


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _positive(scores: np.ndarray) -> np.ndarray:
    """Scores [layers, n] for a log scale: what is 0 or less becomes the smallest positive one; all ones where none is."""
    values = np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=0.0, posinf=0.0)
    positive = values[values > 0]
    return np.maximum(values, positive.min()) if positive.size else np.ones_like(values)
