"""What a pruning decided and why, as pictures and one `report.html`, from plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nemo_plugins.models.architecture import Architecture
from nemo_plugins.reporting.page import PageTable, Part, Picture, Section, cell, page

if TYPE_CHECKING:
    from nemo_plugins.pruning.stability import Stability

SIZES = ("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups")
PLACE = "first layers"  # the name of a layer's place in the model among the criteria: shown, but no measurement
ENOUGH = 0.95  # own choice: rank correlation of two halves of the samples from which more of them would change little

HOW = {
    "importance": "The layers that change their input least were dropped (Block Influence, 1 − cos(input, output)).",
    "loss": "The layers whose removal, one at a time, raises the loss least were dropped.",
    "loss_run": "The run of neighbouring layers whose removal raises the loss least was dropped.",
    "random": "Layers, neurons, channels and heads were dropped by chance: a baseline.",
    "last_layers": "The last layers were dropped: a baseline.",
    "dropped by hand": "The layers to drop were named by hand.",
}


@dataclass(frozen=True)
class Explained:
    """A pruning, in plain numbers; losses are nats a token on held-out text.

    Layers count from 0 here and in `summary.json`, from 1 on the page, as in `prune.drop_layers`.

    Attributes:
        criterion: one of `HOW`, or another in plain words.
        kept_layers: layers of the teacher that the student has, in order.
        layer_criteria: criterion → score of each layer [num_layers], higher is kept; those that were measured.
        layer_scores: those that decided, or one of `layer_criteria` to hold a baseline against, [num_layers]; may be empty.
        width: kind ("FFN neurons", "attention heads": [num_layers, n]; "hidden channels": [1, n]) → scores and whether kept.
        agreement: names of criteria and their Spearman matrix, [k, k].
        stability: how alike two disjoint sets of samples are.
        removals: loss with all layers, (first, last) of a run of layers → loss without it, the run that was taken out.
        calibration: what the scores were measured on, for a table.
        losses: before and after pruning.
        unexplained: layer kept → share of its FFN's output that is missing without and with compensation; may be empty.
    """

    title: str
    teacher: Architecture
    student: Architecture
    criterion: str
    kept_layers: list[int]
    layer_criteria: dict[str, list[float]]
    layer_scores: list[float]
    width: dict[str, tuple[np.ndarray, np.ndarray]]
    agreement: tuple[list[str], np.ndarray]
    stability: Stability | None
    removals: tuple[float, dict[tuple[int, int], float], tuple[int, int] | None] | None
    calibration: dict[str, int | str]
    losses: tuple[float, float]
    unexplained: dict[int, tuple[float, float]] = field(default_factory=dict)


def write(folder: Path, explained: Explained) -> dict[str, Path]:
    """Draw `plots/*.png` and write `report.html` in `folder`; what was not measured is left out. Returns both by name."""
    pictures = folder / "plots"
    before, after = explained.losses
    teacher, student = explained.teacher.parameters(), explained.student.parameters()
    lead = [
        f"From {teacher:,} to {student:,} parameters ({student / teacher - 1:+.1%}); "
        f"loss on held-out text from {before:.4f} to {after:.4f} nats a token ({after - before:+.4f}), not yet distilled.",
        HOW.get(explained.criterion, f"Layers: {explained.criterion}."),
    ]
    sections = [
        Section("What was asked and what it cost", [_cost(explained)]),
        _layers(pictures, explained),
        *_widths(pictures, explained),
        *_compensation(explained),
        *_agreement(pictures, explained),
        *_stability(pictures, explained),
    ]
    if explained.calibration:
        rows = [(name, cell(value)) for name, value in explained.calibration.items()]
        sections.append(Section("Measured on", [PageTable(["", ""], rows)]))
    report = page(folder / "report.html", explained.title, lead, sections)
    return {"report": report, "plots": pictures} if pictures.is_dir() else {"report": report}


def share_kept(scores: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Share of each layer's summed importance that the kept ones have, [layers]; not a number where a layer has none."""
    scores, kept = np.asarray(scores, dtype=np.float64), np.asarray(kept, dtype=bool)
    total = scores.sum(axis=1)
    return np.divide((scores * kept).sum(axis=1), total, out=np.full(len(scores), np.nan), where=total > 0)


def agreement_verdict(names: Sequence[str], matrix: np.ndarray) -> str:
    """What the Spearman matrix [k, k] of the criteria says, in words."""
    measured = [place for place, name in enumerate(names) if name != PLACE]
    pairs = [
        (float(matrix[i][j]), f"{names[i]} and {names[j]}")
        for i in measured
        for j in measured
        if j < i and math.isfinite(matrix[i][j])
    ]
    if not pairs:
        return "Whether the criteria agree is not known: fewer than two were measured."
    (low, unlike), (high, alike) = min(pairs), max(pairs)
    if low >= 0.8:
        said = "The criteria agree: which one is used hardly changes what is dropped."
    elif low >= 0.5:
        said = "The criteria agree roughly: the layers in the middle of the ranking depend on which one is used."
    else:
        said = "The criteria disagree: which layers go depends on the one that is used; compare the losses after pruning."
    detail = f"{alike} {high:.2f}" if len(pairs) == 1 else f"most alike {alike} ({high:.2f}), least {unlike} ({low:.2f})"
    return f"{said} Spearman correlation: {detail}."


def stability_verdict(stability: Stability) -> str:
    """Whether the samples were enough, by the kind on whose ranking the two halves agree least."""
    halves = {name: values[-1] for name, values in stability.correlation.items() if math.isfinite(values[-1])}
    if not halves:
        return "Whether the samples were enough is not known: too few scores that differ."
    worst = min(halves, key=halves.__getitem__)
    at = f"two halves of {stability.samples[-1]:,} samples rank the {worst} alike to {halves[worst]:.3f}"
    if halves[worst] >= ENOUGH:
        return f"Enough samples: even {at}." if len(halves) > 1 else f"Enough samples: {at}."
    return f"More samples would still change the ranking: {at}, less than {ENOUGH}."


def spans(numbers: Iterable[int]) -> str:
    """Ascending numbers with runs joined: 0–11, 14, 20–31."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs) or "none"


def _cost(explained: Explained) -> PageTable:
    teacher, student = explained.teacher, explained.student
    rows = [(name, getattr(teacher, name), getattr(student, name)) for name in SIZES]
    rows.append(("parameters", teacher.parameters(), student.parameters()))
    one_matrix = "parameters, one embedding matrix (as the paper counts)"
    rows.append((one_matrix, teacher.parameters("paper"), student.parameters("paper")))
    shown = [(name, old, new, "" if old == new else f"{100 * (new / old - 1):+.1f} %") for name, old, new in rows]
    before, after = explained.losses
    shown.append(("held-out loss (nats a token)", before, after, f"{after - before:+.4f}"))
    return PageTable(["", "teacher", "student", "change"], shown)


def _layers(folder: Path, explained: Explained) -> Section:
    from nemo_plugins.reporting import plots, pruning_plots  # matplotlib is slow to import

    count, kept = explained.teacher.num_layers, set(explained.kept_layers)
    dropped = set(range(count)) - kept
    parts: list[Part] = [
        PageTable(
            ["layers, from 1", "number", "which"],
            [
                (name, f"{len(which)} of {count}", spans({layer + 1 for layer in which}))
                for name, which in (("kept", kept), ("dropped", dropped))
            ],
        ),
        "Layers are counted from 1 on this page, as in prune.drop_layers; kept_layers in summary.json counts from 0.",
    ]
    if explained.layer_scores:
        what, decided = _scored(explained)
        drawn = plots.layers(folder / "layers.png", explained.layer_scores, kept, what)
        parts += [
            "The higher a bar, the more the layer matters "
            + ("under the criterion that decided" if decided else "by this measure, which did not decide")
            + "; the dropped ones are shaded.",
            Picture(drawn, f"score of each layer, {len(dropped)} of {count} dropped"),
        ]
    if explained.removals and explained.removals[1]:
        baseline, runs, chosen = explained.removals
        drawn = pruning_plots.removals(folder / "removals.png", baseline, runs, chosen)
        said = f" {chosen[0] + 1}–{chosen[1] + 1} was taken out: {runs[chosen]:.4f}." if chosen and chosen in runs else ""
        parts += [
            f"Each point is the loss without a run of neighbouring layers that begins there; lower is better.{said}",
            Picture(drawn, "loss after removing each run of neighbouring layers"),
        ]
    measured = {name: scores for name, scores in explained.layer_criteria.items() if len(scores)}
    if measured:
        rows = [
            (layer + 1, *(float(scores[layer]) for scores in measured.values()), "kept" if layer in kept else "dropped")
            for layer in range(count)
        ]
        parts += [
            "What each criterion says of each layer; a higher score is kept.",
            PageTable(["layer, from 1", *measured, ""], rows),
        ]
    return Section("Layers", parts)


def _scored(explained: Explained) -> tuple[str, bool]:
    """What `layer_scores` are, as `plots.layers` names it, and whether they decided."""
    same = [name for name, scores in explained.layer_criteria.items() if list(scores) == list(explained.layer_scores)]
    known = {"block influence": "importance", "loss increase": "loss"}
    what = known.get(same[0].lower(), same[0]) if same else explained.criterion
    return what, what == explained.criterion


def _by_score(scores: np.ndarray, kept: np.ndarray) -> bool:
    """Whether what is kept, [layers, n], are each layer's highest; heads go by query group, a random baseline by chance."""
    lowest_kept = np.where(kept, scores, np.inf).min(axis=1)
    return bool((np.where(kept, -np.inf, scores).max(axis=1) <= lowest_kept).all())


def _widths(folder: Path, explained: Explained) -> list[Section]:
    if not explained.width:
        return []
    from nemo_plugins.reporting import pruning_plots

    rows: list[Sequence[str]] = []
    pictures: list[Part] = []
    for what, (scores, kept) in explained.width.items():
        layers, count = scores.shape
        each = np.asarray(kept, dtype=bool).sum(axis=1)
        fewest, most = int(each.min()), int(each.max())
        number = f"{fewest:,} of {count:,}" if fewest == most else f"{fewest:,}–{most:,} of {count:,}"
        shares = share_kept(scores, kept)
        known = shares[np.isfinite(shares)]
        marks = [f"{100 * f(known):.2f} %" if known.size else "–" for f in (np.min, np.median, np.max)]
        rows.append((what, number, *marks))
        if fewest == count:  # nothing of it was dropped
            continue
        name = what.lower().replace(" ", "_").replace("/", "_")
        one_cut = fewest == most and _by_score(scores, kept)
        drawn = pruning_plots.distribution(folder / f"{name}_distribution.png", scores, fewest / count if one_cut else 1, what)
        how = "how many have which importance" if layers == 1 else "a box is the middle half of a layer, its whiskers 98 %"
        how += "; the lowest went." if one_cut else "; there is no one cut, as not just the lowest of a layer went."
        pictures += [f"{what}: {how}", Picture(drawn, f"distribution of the importance of {what}")]
        if layers > 1:
            drawn = pruning_plots.heatmap(folder / f"{name}_heatmap.png", scores, what)
            pictures += [
                "Each row is a layer, its most important on the left: the faster a row darkens, the less a cut loses.",
                Picture(drawn, f"sorted importance of {what} in each layer"),
            ]
    header = ["", "kept in a layer", "importance kept: min", "median", "max over layers"]
    lead = "The share of the summed importance that the kept ones have: far above their share in number is a cheap cut."
    return [Section("Width", [lead, PageTable(header, rows), *pictures])]


def _compensation(explained: Explained) -> list[Section]:
    if not explained.unexplained:
        return []
    rows = [
        (layer + 1, f"{100 * before:.2f} %", f"{100 * after:.2f} %", f"{100 * (1 - after / before):.0f} %" if before else None)
        for layer, (before, after) in explained.unexplained.items()
    ]
    how = (
        "The kept FFN neurons of a layer took over what they have in common with those that went, by least squares on the "
        "calibration text: the share of the FFN's squared output that is missing, on what the student's layers are given."
    )
    header = ["layer, from 1", "missing with the teacher's weights", "missing with the new ones", "made good"]
    return [Section("Compensation", [how, PageTable(header, rows)])]


def _agreement(folder: Path, explained: Explained) -> list[Section]:
    names, matrix = explained.agreement
    if len(names) < 2:
        return []
    from nemo_plugins.reporting import pruning_plots

    drawn = pruning_plots.agreement(folder / "agreement.png", matrix, names)
    how = "1: two criteria rank the layers alike; 0: they have nothing to do with each other."
    picture = Picture(drawn, "rank correlation between the criteria")
    return [Section("Do the criteria agree?", [agreement_verdict(names, matrix), how, picture])]


def _stability(folder: Path, explained: Explained) -> list[Section]:
    stability = explained.stability
    if stability is None:
        return []
    from nemo_plugins.pruning.stability import of_all
    from nemo_plugins.reporting import pruning_plots

    drawn = pruning_plots.stability(folder / "stability.png", stability)
    how = (
        f"Two disjoint sets of n samples each, n up to half of the {stability.total:,}: how alike they rank, and how much of "
        "what one would keep the other would keep, too. Where a line is level near the top, more samples change nothing."
    )
    half, rows = stability.samples[-1], []
    for kind, values in stability.correlation.items():
        same = stability.overlap.get(kind)
        shares = [f"{100 * share:.1f} %" for share in (same[-1], stability.chance[kind])] if same else [None, None]
        rows.append((kind, f"{values[-1]:.3f}", f"{of_all(values[-1]):.3f}", *shares))
    header = ["", f"correlation of {half:,} and {half:,} samples", f"expected of {stability.total:,} and {stability.total:,}"]
    table = PageTable([*header, "kept by both halves", "by chance"], rows)
    what = "The expected correlation is Spearman and Brown's: of this calibration with another of as many samples."
    picture = Picture(drawn, "agreement of two disjoint sets of n samples, by n")
    return [Section("Were the samples enough?", [stability_verdict(stability), how, picture, table, what])]
