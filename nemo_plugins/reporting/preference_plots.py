"""The pictures of a preference training: whether the chosen answers win, and whether they become less likely."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nemo_plugins.reporting.page import Picture, Section, cell
from nemo_plugins.reporting.plots import BASELINE, DROPPED, KEPT, write_png
from nemo_plugins.reporting.training_plots import Lines, finite, series, taken


def sections(folder: Path, lines: Lines) -> list[Section]:
    """Reward margin and accuracy, and the shift of the chosen and rejected log-probabilities since the reference."""
    parts = []
    margins = finite(series(lines, "val_margin"))
    if drawn := margin(folder / "margin.png", lines):
        said = "A pair's margin is β times how much more the chosen answer has gained on the reference than the rejected one."
        if margins:
            step = max(margins)
            right = finite(series(lines, "val_accuracy")).get(step)
            said += f" On held-out pairs it was {cell(margins[step])} at step {step:,}, and above 0 in {right:.1%} of them."
        parts.append(Section("Does the chosen answer win", [Picture(drawn, "margin and accuracy by step"), said]))
    if drawn := shift(folder / "shift.png", lines):
        fell, shifts = finite(series(lines, "val_chosen_fell")), finite(series(lines, "val_chosen_shift"))
        said = "DPO may widen the margin by making both answers less likely; DPO-P punishes that for the chosen one."
        if shifts:
            step = max(shifts)
            said += f" Held-out chosen answers: {cell(shifts[step])} nats against the reference at step {step:,}"
            said += f", less likely than there in {fell[step]:.1%} of the pairs."
        parts.append(Section("Does it become less likely", [Picture(drawn, "shift of log-probabilities by step"), said]))
    return parts


def margin(path: Path, lines: Lines) -> Path | None:
    """Margin and accuracy by step, in training and on held-out pairs. Returns `path`; None where there is no margin."""
    if not finite(taken(lines, "margin")):
        return None
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    for axes, key, label in zip(panels, ("margin", "accuracy"), ("margin", "pairs with a margin above 0"), strict=True):
        _lines(axes, lines, {key: ("training", BASELINE), f"val_{key}": ("held out", KEPT)})
        axes.set(xlabel="step", ylabel=label)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[1].set_ylim(0, 1.02)
    return write_png(figure, path)


def shift(path: Path, lines: Lines) -> Path | None:
    """Log-probability of held-out chosen and rejected answers by step. Returns `path`; None where it was not measured."""
    if not finite(series(lines, "val_logp_chosen")):
        return None
    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    _lines(axes, lines, {"val_logp_chosen": ("chosen", KEPT), "val_logp_rejected": ("rejected", DROPPED)})
    chosen, shifts = finite(series(lines, "val_logp_chosen")), finite(series(lines, "val_chosen_shift"))
    for step in sorted(chosen.keys() & shifts.keys())[:1]:
        axes.axhline(chosen[step] - shifts[step], color="black", linewidth=1, linestyle=(0, (4, 3)), label="chosen, reference")
    axes.set(xlabel="step", ylabel="log-probability of the answer (nats)")
    axes.legend(frameon=False, loc="best")
    return write_png(figure, path)


def _lines(axes, lines: Lines, keys: dict[str, tuple[str, str]]) -> None:
    for key, (label, colour) in keys.items():
        if values := finite(taken(lines, key)):
            marker = "o" if key.startswith("val_") else None
            axes.plot(list(values), list(values.values()), color=colour, label=label, marker=marker, markersize=4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="best")
