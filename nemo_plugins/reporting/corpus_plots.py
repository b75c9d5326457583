"""Pictures of a corpus: lengths, quality, duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nemo_plugins.data.corpus.document_counts import SHARES, length_of
from nemo_plugins.reporting.plots import BASELINE, DROPPED, KEPT, plain, pyplot, write_png

LENGTH_COLOURS = (BASELINE, DROPPED, KEPT)
CLUSTERS_SHOWN = 40


def lengths(path: Path, histograms: Mapping[str, Mapping[int, int]]) -> Path:
    """Documents by their characters, a line for each named histogram of `document_counts.length_bin`, logarithmic."""
    figure, axes = pyplot.subplots(figsize=(7, 3.2))
    for colour, (name, bins) in zip(LENGTH_COLOURS, histograms.items(), strict=False):
        if bins:
            places = range(min(bins), max(bins) + 2)
            counts = [bins.get(place, 0) for place in places]
            axes.step([length_of(place) for place in places], counts, where="post", color=colour, label=plain(name))
    axes.set_xscale("log")
    axes.set(xlabel="characters of a document", ylabel="documents")
    axes.set_title("How long documents are", loc="left")
    axes.legend(frameon=False, fontsize="small")
    return write_png(figure, path)


def shares(path: Path, bins: Mapping[int, int], minimum: float | None, title: str, label: str) -> Path:
    """Documents by a probability (`document_counts.share_bin`), those from `minimum` on in another colour; log counts."""
    figure, axes = pyplot.subplots(figsize=(7, 3.2))
    kept = [minimum is None or place / SHARES >= minimum - 1e-9 for place in range(SHARES)]
    for chosen, colour, name in ((True, KEPT, "kept"), (False, DROPPED, "dropped")):
        which = [place for place in range(SHARES) if kept[place] is chosen and bins.get(place)]
        count = sum(bins[place] for place in which)
        axes.bar(
            [(place + 0.5) / SHARES for place in which],
            [bins[place] for place in which],
            width=1 / SHARES,
            color=colour,
            label=f"{name} ({count:,})",
        )
    if minimum is not None:
        axes.axvline(minimum, color="black", linewidth=1, linestyle="--")
    axes.set_yscale("log")
    axes.set(xlabel=plain(label), ylabel="documents", xlim=(0, 1))
    axes.set_title(plain(title), loc="left")
    axes.legend(frameon=False, fontsize="small")
    return write_png(figure, path)


def clusters(path: Path, sizes: Mapping[int, int]) -> Path:
    """How many clusters of duplicates there are of each size; larger ones than `CLUSTERS_SHOWN` in the last bar."""
    figure, axes = pyplot.subplots(figsize=(7, 3.2))
    shown: dict[int, int] = {}
    for size, count in sizes.items():
        place = min(size, CLUSTERS_SHOWN)
        shown[place] = shown.get(place, 0) + count
    axes.bar(list(shown), list(shown.values()), color=KEPT)
    if shown:
        axes.set_yscale("log")
    more = f", the last bar: {CLUSTERS_SHOWN} and more" if max(sizes, default=0) > CLUSTERS_SHOWN else ""
    axes.set(xlabel=f"documents of a cluster, one of which stays{more}", ylabel="clusters")
    axes.set_title("Duplicates", loc="left")
    return write_png(figure, path)
