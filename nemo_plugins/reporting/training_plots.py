"""The pictures of a training stage from the lines of its `metrics.jsonl`; each is drawn only where its numbers are there."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from nemo_plugins.reporting.plots import BASELINE, DROPPED, KEPT, plain, write_png
from nemo_plugins.reporting.pruning_plots import LINES, MARKERS

Lines = Sequence[Mapping[str, float | None]]

MANY = 50  # points from which single ones hide the course, and a running median is drawn over them
ALIKE = 1e-3  # relative difference up to which two losses are the same one, summed in another order
MAIN = "main"  # what the held-out set is called whose keys bear no name, where there are others
LABELS = {
    "loss": "training loss",
    "kd_loss": "divergence from the teacher\n(nats a token × T²)",
    "ce": "cross-entropy on the training text\n(nats a token)",
}


def series(lines: Lines, key: str) -> dict[int, float]:
    """Step → value of the lines that have the key, steps ascending; not a number where it was not finite.

    The later line of a step stands: it is from after a resume.
    """
    by_step = {}
    for line in lines:
        if (step := line.get("step")) is not None and key in line:
            value = line[key]
            by_step[int(step)] = float(value) if value is not None and math.isfinite(value) else math.nan
    return dict(sorted(by_step.items()))


def finite(values: Mapping[int, float]) -> dict[int, float]:
    return {step: value for step, value in values.items() if math.isfinite(value)}


def skipped(lines: Lines) -> list[int]:
    """Steps whose update was skipped, of those that were logged."""
    return [step for step, value in series(lines, "skipped").items() if value > 0]


def taken(lines: Lines, key: str) -> dict[int, float]:
    """`series` without the skipped steps: a spike that never reached the weights would press the curve flat."""
    left_out = set(skipped(lines))
    return {step: value for step, value in series(lines, key).items() if step not in left_out}


def sets(lines: Lines, key: str) -> dict[str, dict[int, float]]:
    """Held-out set → its series of `key` (`val_loss`, `val_kl`, `val_agreement`); the one without a name, "", first."""
    keys = sorted({each for line in lines for each in line if each == key or each.startswith(f"{key}_")})
    return {each[len(key) + 1 :]: values for each in keys if (values := series(lines, each))}


def losses(lines: Lines) -> dict[str, dict[int, float]]:
    """`loss`, and `kd_loss` and `ce` where they are known and not the loss itself."""
    curves = {key: values for key in LABELS if finite(values := taken(lines, key))}
    return {key: values for key, values in curves.items() if key == "loss" or not same(values, curves.get("loss", {}))}


def same(values: Mapping[int, float], others: Mapping[int, float]) -> bool:
    """Whether two losses agree at each step that has both."""
    values, others = finite(values), finite(others)
    both = values.keys() & others.keys()
    return bool(both) and all(math.isclose(values[step], others[step], rel_tol=ALIKE) for step in both)


def running_median(values: Sequence[float], window: int) -> list[float]:
    """Median of the `window` values around each one, without those that are not a number, which stay so themselves.

    At the end the window is cut off, which keeps the last noisy value from being the level reached; at the start it narrows,
    as a loss falls fastest there.
    """
    smooth = []
    for place, value in enumerate(values):
        half = min(window // 2, place)
        near = [each for each in values[place - half : place + half + 1] if not math.isnan(each)]
        smooth.append(math.nan if math.isnan(value) else statistics.median(near))
    return smooth


def curves(path: Path, lines: Lines, paper: tuple[float, float] | None = None) -> Path | None:
    """Training loss by step, beside it the divergence from the teacher and the cross-entropy where they are not the loss.

    Args:
        paper: first and last KD loss of the paper, as two lines.
    Returns: `path`; None where no loss was finite.
    """
    shown = losses(lines)
    if not shown:
        return None
    figure, panels = _panels(len(shown))
    left_out = skipped(lines)
    compared = "kd_loss" if "kd_loss" in shown else next(iter(shown))
    for axes, (key, values) in zip(panels, shown.items(), strict=True):
        _trace(axes, values, KEPT, "each logged step")
        if paper and key == compared:
            for style, name, value in zip(((0, (2, 3)), (0, (7, 3))), ("first", "last"), paper, strict=True):
                axes.axhline(value, color="black", linestyle=style, linewidth=1, label=f"Bielik-Minitron, {name}: {value:g}")
        _mark(axes, left_out)
        label = LABELS[key]
        if key == "loss" and same(values, taken(lines, "kd_loss")):
            label = f"training loss: {LABELS['kd_loss']}"
        _finish(axes, label)
    return write_png(figure, path)


def heldout(path: Path, lines: Lines) -> Path | None:
    """Held-out loss by step, a line a set, its lowest ringed; beside it the divergence from the teacher there.

    In a distillation two level lines are what there was to win: the loss before step 1 and the teacher's.
    """
    shown = {
        label: found
        for key, label in (
            ("val_loss", "held-out loss (nats a token)"),
            ("val_kl", "held-out divergence from the teacher\n(KL, nats a token)"),
        )
        if (found := _known_sets(lines, key))
    }
    if not shown:
        return None
    figure, panels = _panels(len(shown))
    styles = _styles(lines)
    for axes, (label, found) in zip(panels, shown.items(), strict=True):
        for name, values in found.items():
            colour, marker = styles[name]
            called = (name or MAIN) if len(found) > 1 else name or "each validation"
            axes.plot(*_points(values), color=colour, marker=marker, markersize=4, label=plain(called))
            best = min(finite(values), key=values.__getitem__)
            axes.plot(best, values[best], "o", markersize=11, markerfacecolor="none", markeredgecolor=colour)
        if label.startswith("held-out loss"):
            _gap(axes, lines, styles)
        axes.plot([], [], "o", markersize=9, markerfacecolor="none", markeredgecolor=BASELINE, label="lowest")
        _finish(axes, label)
    return write_png(figure, path)


def level(values: Mapping[int, float]) -> float | None:
    """The last finite value of a series that does not change."""
    return next(reversed(finite(values).values()), None)


def _gap(axes, lines: Lines, styles: Mapping[str, tuple[str, str]]) -> None:
    """Level lines of the sets whose teacher was measured: its loss, and the student's before step 1."""
    starts = _known_sets(lines, "val_loss")
    for name, teacher in _known_sets(lines, "teacher_val_loss").items():
        of = f", {name}" if name else ""
        colour = styles.get(name, (BASELINE, ""))[0]
        value = level(teacher)
        axes.axhline(value, color=colour, linestyle="--", linewidth=1, label=plain(f"teacher{of} ({value:.3f})"))
        if (start := starts.get(name, {}).get(0)) is not None:
            axes.axhline(
                start, color=colour, linestyle=":", linewidth=1.2, label=plain(f"student before step 1{of} ({start:.3f})")
            )


def agreement(path: Path, lines: Lines) -> Path | None:
    """Share of tokens whose most likely next one is the teacher's, in training and on each held-out set."""
    train, heldout = taken(lines, "agreement"), _known_sets(lines, "val_agreement")
    if not finite(train) and not heldout:
        return None
    figure, (axes,) = _panels(1)
    if finite(train):
        _trace(axes, train, BASELINE, "training, each logged step")
    styles = _styles(lines)
    for name, values in heldout.items():
        colour, marker = styles[name]
        label = f"held-out, {name or MAIN}" if len(heldout) > 1 else f"held-out {name}".strip()
        axes.plot(*_points(values), color=colour, marker=marker, markersize=4, label=plain(label), zorder=3)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _finish(axes, "tokens whose most likely next one is the teacher's")
    return write_png(figure, path)


def health(path: Path, lines: Lines) -> Path | None:
    """Norm of the gradient, on a log scale where it spans a decade, and the learning rate; skipped steps marked."""
    shown = {key: values for key in ("grad_norm", "lr") if finite(values := series(lines, key))}
    if not shown:
        return None
    figure, panels = _panels(len(shown))
    left_out = skipped(lines)
    for axes, (key, values) in zip(panels, shown.items(), strict=True):
        if key == "lr":
            axes.plot(*_points(values), color=KEPT, marker="o" if len(values) <= MANY else "", markersize=3)
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3), useMathText=True)
            label = "learning rate"
        else:
            _trace(axes, {step: value for step, value in values.items() if step not in left_out}, KEPT, "each logged step")
            refused = {step: value for step, value in finite(values).items() if step in left_out}
            axes.plot(*_points(refused), "x", color=DROPPED, label="norm of a skipped one" if refused else None)
            known = finite(values).values()
            wide = 0 < 10 * min(known) <= max(known)
            if wide:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            label = "norm of the gradient" + (", log scale" if wide else "")
        _mark(axes, left_out)
        _finish(axes, label)
    return write_png(figure, path)


def speed(path: Path, lines: Lines) -> Path | None:
    """Tokens a second of all devices together, and the share of their peak that was used (MFU) where it is known."""
    shown = {key: values for key in ("tokens_per_second", "mfu") if finite(values := series(lines, key))}
    if not shown:
        return None
    figure, panels = _panels(len(shown))
    for axes, (key, values) in zip(panels, shown.items(), strict=True):
        _trace(axes, values, KEPT, "each logged step")
        axes.set_ylim(bottom=0)  # a slow step next to a fast one is the picture's point, not the fourth digit
        rate = key == "tokens_per_second"
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}") if rate else PercentFormatter(1.0))
        _finish(axes, "tokens a second" if rate else "model FLOPs utilisation (MFU)")
    return write_png(figure, path)


def _panels(count: int):
    size = (7.5 if count == 1 else 4.8 * count, 3.8)
    figure, panels = pyplot.subplots(1, count, figsize=size, squeeze=False, layout="constrained")
    return figure, list(panels[0])


def _points(values: Mapping[int, float]) -> tuple[list[int], list[float]]:
    return list(values), list(values.values())


def _known_sets(lines: Lines, key: str) -> dict[str, dict[int, float]]:
    return {name: values for name, values in sets(lines, key).items() if finite(values)}


def _styles(lines: Lines) -> dict[str, tuple[str, str]]:
    """Colour and marker of each held-out set, the same in all pictures."""
    names = dict.fromkeys(name for key in ("val_loss", "val_kl", "val_agreement") for name in sets(lines, key))
    return {name: (LINES[place % len(LINES)], MARKERS[place % len(MARKERS)]) for place, name in enumerate(names)}


def _trace(axes, values: Mapping[int, float], colour: str, label: str) -> None:
    """A series as points, or where they are many as a light line under its running median."""
    steps, numbers = _points(values)
    if len(finite(values)) <= MANY:
        axes.plot(steps, numbers, color=colour, marker="o", markersize=3, linewidth=1.2, label=label)
        return
    window = max(5, min(201, len(numbers) // 30)) | 1
    axes.plot(steps, numbers, color=colour, alpha=0.35, linewidth=0.7, label=label)
    axes.plot(steps, running_median(numbers, window), color=colour, linewidth=1.8, label=f"running median of {window}")


def _mark(axes, steps: Iterable[int]) -> None:
    steps = list(steps)
    for place, step in enumerate(steps):
        label = f"step skipped ({len(steps)})" if not place else None
        axes.axvline(step, color=DROPPED, linewidth=1, alpha=0.6, zorder=0, label=label)


def _finish(axes, label: str) -> None:
    """Axis, title, and a legend below the panel, where it covers nothing."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.set_xlabel("step")
    # the exponent of a scientific axis stands where a title on the left begins
    axes.set_title(label, loc="center" if label == "learning rate" else "left", fontsize="medium")
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
