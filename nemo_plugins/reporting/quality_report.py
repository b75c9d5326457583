"""How good a quality classifier is: what it keeps, and whether its probabilities mean what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_plugins.reporting.page import PageTable, Picture, Section, page
from nemo_plugins.runs.folder import write as write_whole

if TYPE_CHECKING:
    from nemo_plugins.data.quality.training import ClassifierMetrics


def write(
    folder: Path, language: str, measured: ClassifierMetrics, sources: Mapping[str, tuple[int, float]], about: Mapping[str, Any]
) -> dict[str, Path]:
    """Write `report.html`, `measured.json` and the reliability curve. Returns what was written, by name.

    Args:
        sources: of the good documents as they are, (how many, share kept).
        about: what the classifier was trained on.
    """
    curve = reliability(folder / "plots" / "reliability.png", measured.reliability, measured.calibration_error)
    kinds = [(name, count, f"{share:.1%}") for name, (count, share) in measured.kinds.items()]
    by_source = [(name, count, f"{share:.1%}") for name, (count, share) in sources.items()]
    lead = [
        f"Kept from P(HIGH) = {measured.minimum:g} on: precision {measured.precision:.4f}, recall {measured.recall:.4f} of "
        f"{measured.examples:,} examples. The bad ones are made (docs/quality.md): these numbers say how well "
        "it tells good text of this kind from such pages, not how well it judges the web.",
        f"Trained on {about['good']['documents']:,} good documents.",
    ]
    sections = [
        Section("What is kept", [PageTable(["class", "dropped", "kept"], [[name, *row] for name, row in
                                       zip(("LOW", "MEDIUM", "HIGH"), measured.confusion, strict=True)]),
                                 PageTable(["made how", "examples", "kept"], kinds)]),
        Section("Good documents as they are", [PageTable(["source", "documents", "kept"], by_source)]),
        Section("Do the probabilities mean what they say?", [
            f"Expected calibration error {measured.calibration_error:.4f}; {measured.uncalibrated_error:.4f} uncalibrated.",
            Picture(curve, "share of HIGH among examples against the probability that was said"),
            PageTable(["mean P(HIGH)", "share that is HIGH", "examples"], [list(row) for row in measured.reliability])]),
    ]  # fmt: skip
    report = page(folder / "report.html", f"quality classifier: {language}", lead, sections)
    told = {"precision": measured.precision, "recall": measured.recall, "kinds": measured.kinds, "sources": sources}
    write_whole(folder / "measured.json", json.dumps(told, indent=1) + "\n")
    return {"report": report, "measured": folder / "measured.json", "reliability": curve}


def reliability(path: Path, points: Sequence[tuple[float, float, int]], error: float) -> Path:
    """The curve: what is said against what is; on the line where they agree."""
    from nemo_plugins.reporting.plots import BASELINE, KEPT, pyplot, write_png

    figure, axes = pyplot.subplots(figsize=(4.2, 4.2))
    axes.plot([0, 1], [0, 1], color=BASELINE, linewidth=1)
    axes.plot([said for said, _, _ in points], [true for _, true, _ in points], color=KEPT, marker="o")
    for said, true, count in points:
        axes.annotate(f"{count:,}", (said, true), textcoords="offset points", xytext=(6, -10), fontsize="x-small")
    axes.set(xlabel="P(HIGH), mean of a bin", ylabel="share that is HIGH", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"Reliability, ECE {error:.3f}", loc="left")
    return write_png(figure, path)
