"""The pictures of a run. matplotlib without a display; one function a picture, each writes one PNG.

Those of pruning are in `pruning_plots`, of a search in `search_plots`, of a training in `training_plots`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import MaxNLocator

from nemo_plugins.runs.atomic import whole_file

KEPT, DROPPED, BASELINE = "#1f6f8b", "#c8553d", "#9aa0a6"

# criterion → title, what the score of a layer is; a higher one is kept
CRITERIA = {
    "importance": ("Block Influence of the teacher's layers", "1 − cos(input, output)"),
    "loss": ("what each of the teacher's layers is worth", "loss increase when removed (nats)"),
    "random": ("random baseline", "random score"),
}


def write_png(figure, path: Path) -> Path:
    """Write the figure, whole or not at all, and close it; the file's folder is made. Returns `path`."""
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150, bbox_inches="tight", format="png")
    pyplot.close(figure)
    return path


def plain(text: str) -> str:
    """A name as it stands: matplotlib would take what is between two dollar signs for a formula."""
    return text.replace("$", r"\$")


def layers(path: Path, scores: Sequence[float], kept: Iterable[int], criterion: str) -> Path:
    """Score of each layer, drawn from 1, the dropped ones marked; log scale where a few dwarf the others.

    Args:
        kept: layers that stay, from 0.
        criterion: what the scores are, one of `CRITERIA` or in plain words.
    """
    kept = set(kept)
    title, label = CRITERIA.get(criterion, (f"the teacher's layers by {criterion}", "score"))
    figure, axes = pyplot.subplots(figsize=(max(5, 0.22 * len(scores)), 3.2))
    for state, colour, chosen in (("kept", KEPT, True), ("dropped", DROPPED, False)):
        which = [layer for layer in range(len(scores)) if (layer in kept) is chosen]
        axes.bar(
            [layer + 1 for layer in which], [scores[layer] for layer in which], color=colour, label=f"{state} ({len(which)})"
        )
        if not chosen:  # a layer may be dropped because its bar is too small to see
            for layer in which:
                axes.axvspan(layer + 0.5, layer + 1.5, color=colour, alpha=0.15, linewidth=0)
    if scores and min(scores) > 0 and max(scores) > 30 * statistics.median(scores):
        axes.set_yscale("log")
        label += ", log scale"
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="layer (from 1)", ylabel=plain(label), xlim=(0.3, len(scores) + 0.7))
    axes.set_title(plain(title), loc="left")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small")
    return write_png(figure, path)


def losses(path: Path, values: Mapping[str, float], baselines: Iterable[str], title: str) -> Path:
    """Held-out loss of each model as a bar, the baselines in grey."""
    baselines = set(baselines)
    figure, axes = pyplot.subplots(figsize=(7, 0.5 * len(values) + 1.2))
    names = list(values)
    axes.barh(names, [values[name] for name in names], color=[BASELINE if name in baselines else KEPT for name in names])
    for place, name in enumerate(names):
        axes.text(values[name], place, f" {values[name]:.3f}", va="center")
    axes.invert_yaxis()
    axes.set(xlabel="loss on held-out text (lower is better)", xlim=(0.9 * min(values.values()), 1.06 * max(values.values())))
    axes.set_title(title, loc="left")
    return write_png(figure, path)
