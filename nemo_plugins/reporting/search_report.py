"""What a search over students found: a table, pictures, one `report.html` and `candidates.csv`, from plain numbers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np

from nemo_plugins import runs
from nemo_plugins.reporting.page import Cell, PageTable, Part, Picture, Section, cell, page
from nemo_plugins.runs.folder import write as write_whole

SHORT = {
    "num_layers": "layers",
    "hidden_size": "hidden",
    "ffn_hidden_size": "FFN",
    "num_attention_heads": "heads",
    "num_query_groups": "key-value heads",
}


@dataclass(frozen=True)
class Row:
    """One candidate. Losses are nats a token on held-out text.

    Attributes:
        sizes: what differs from the teacher.
        parameters: all that are stored; `parameters_paper` counts one embedding matrix.
        loss: after pruning, before distillation; None: it failed.
        distilled: after the short distillation; None: not distilled.
        error: why it failed.
    """

    name: str
    sizes: dict[str, int]
    parameters: int
    parameters_paper: int
    loss: float | None
    distilled: float | None
    error: str | None


def front(rows: Sequence[Row]) -> set[str]:
    """Names on the Pareto front of parameters and loss before distillation.

    A row is off it if another has no more parameters and no higher loss, and is better in one of them; equal rows stay both.
    """
    measured = [(row.name, row.parameters, row.loss) for row in rows if _known(row.loss)]

    def beaten(size: int, loss: float) -> bool:
        return any(other <= size and its <= loss and (other < size or its < loss) for _, other, its in measured)

    return {name for name, size, loss in measured if not beaten(size, loss)}


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Best first: the distilled by their loss, then those only pruned by theirs, failed ones last; of equals the smaller."""

    def key(row: Row):
        if _known(row.distilled):
            return (0, row.distilled, row.parameters, row.name)
        return (1, row.loss, row.parameters, row.name) if _known(row.loss) else (2, 0.0, row.parameters, row.name)

    return sorted(rows, key=key)


def rank_correlation(rows: Sequence[Row]) -> tuple[int, float | None]:
    """Number of rows with both losses, and Spearman's correlation between them, tied values at their mean rank.

    None below three rows, or where one of the losses is the same for all.
    """
    both = [(row.loss, row.distilled) for row in rows if _known(row.loss) and _known(row.distilled)]
    if len(both) < 3:
        return len(both), None
    from scipy.stats import rankdata  # slow to import

    before, after = map(rankdata, zip(*both, strict=True))
    if before.std() == 0 or after.std() == 0:
        return len(both), None
    return len(both), float(np.corrcoef(before, after)[0, 1])


def trust(rows: Sequence[Row]) -> str:
    """How far the ranking before distillation can be trusted, in words."""
    count, correlation = rank_correlation(rows)
    if correlation is None:
        why = f"{count} distilled, three are needed" if count < 3 else "their losses do not differ"
        return f"How far the ranking before distillation can be trusted is not known: {why}."
    if correlation >= 0.8:
        said = "it can be trusted to choose a student"
    elif correlation >= 0.5:
        said = "trust it roughly: distil the few best before choosing"
    else:
        said = "do not choose by it: distil every candidate that matters"
    few = " So few may agree or differ by chance." if count < 5 else ""
    return (
        f"The losses before and after distillation of {count} candidates have a rank correlation (Spearman) of "
        f"{correlation:.2f}: {said}.{few}"
    )


def write(folder: Path, title: str, rows: list[Row], teacher: tuple[int, float], lines: list[str]) -> dict[str, Path]:
    """Write pictures, `report.html` and `candidates.csv` in `folder`. Returns what was written, by name.

    Args:
        teacher: its parameters and held-out loss.
        lines: paragraphs for the top of the report.
    """
    from nemo_plugins.reporting import search_plots  # matplotlib is slow to import

    best, order = front(rows), ranked(rows)
    before = {row.name: row.loss for row in order if _known(row.loss)}  # in this order: the picture numbers them by their rank
    after = {row.name: row.distilled for row in order if _known(row.distilled) and row.name in before}
    count, correlation = rank_correlation(rows)
    folder.mkdir(parents=True, exist_ok=True)
    outputs = {}
    parts: list[Part] = []
    if before:
        outputs["pareto"] = search_plots.pareto(
            folder / "plots" / "pareto.png",
            [row.parameters for row in order if row.name in before],
            list(before.values()),
            list(before),
            best,
            set(after),
            teacher,
            after or None,
        )
        how = (
            "Each point is a candidate, before distillation; lower and further left is better, and no candidate is below the "
            "step line. The numbers are the ranks of the table."
        )
        parts += [how, Picture(outputs["pareto"], "held-out loss of each candidate against its parameters")]
    sections = [Section("Size and loss", parts)] if parts else []
    parts = [trust(rows)]
    if count >= 3:
        outputs["ranks"] = search_plots.ranks(folder / "plots" / "ranks.png", before, after, correlation)
        how = "Each point is a distilled candidate; if they climb from left to right, the order before distillation held."
        parts += [how, Picture(outputs["ranks"], "loss of each candidate before and after distillation")]
    sections += [Section("Can the cheap ranking be trusted?", parts), Section("All candidates", [_table(order, best, teacher)])]
    outputs["report"] = page(folder / "report.html", title, lines, sections)
    write_whole(folder / "candidates.csv", _csv(order, best))
    return outputs | {"candidates": folder / "candidates.csv"}


def show(rows: Sequence[Row], teacher: tuple[int, float]) -> None:
    """Print the candidates, best first, and how far their ranking can be trusted."""
    from rich.table import Table as Shown
    from rich.text import Text

    best = front(rows)
    table = Shown(title="candidates, loss on held-out text", title_justify="left")
    for name in ("rank", "name", "parameters", "loss", "distilled", "note"):
        table.add_column(name, justify="left" if name in ("name", "note") else "right", overflow="fold")
    table.add_row("", "teacher", f"{teacher[0]:,}", cell(teacher[1]), "", "")
    for place, row in enumerate(ranked(rows), 1):
        numbers = (f"{row.parameters:,}", cell(row.loss), cell(row.distilled))
        rank = str(place) if _measured(row) else "–"
        # as Text: an error may have brackets, which rich would take for markup
        table.add_row(rank, Text(row.name), *numbers, Text(_note(row, best)))
    console = runs.console()
    console.print(table)
    console.print(trust(rows), soft_wrap=True)


def _known(loss: float | None) -> TypeGuard[float]:
    """Whether it was measured; a loss that is not finite counts as failed."""
    return loss is not None and math.isfinite(loss)


def _measured(row: Row) -> bool:
    return _known(row.loss) or _known(row.distilled)


def _note(row: Row, best: set[str]) -> str:
    first = next((line.strip() for line in (row.error or "").splitlines() if line.strip()), "")
    failed = "" if _measured(row) else "failed"
    return ": ".join(filter(None, ["Pareto front" if row.name in best else failed, first]))


def _size_names(rows: Sequence[Row]) -> list[str]:
    """Sizes that some candidate changes, in the order of an architecture, others after them."""
    names = dict.fromkeys(name for row in rows for name in row.sizes)
    return [name for name in SHORT if name in names] + [name for name in names if name not in SHORT]


def _table(order: Sequence[Row], best: set[str], teacher: tuple[int, float]) -> PageTable:
    """Every candidate; a dash among the sizes is the teacher's."""
    names = _size_names(order)
    header = ["rank", "name", *(SHORT.get(name, name) for name in names), "parameters", "one embedding matrix"]
    lines: list[list[Cell]] = [[None, "teacher", *[None] * len(names), teacher[0], None, teacher[1], None, ""]]
    for place, row in enumerate(order, 1):
        sizes = [row.sizes.get(name) for name in names]
        rank = place if _measured(row) else None
        numbers = [row.parameters, row.parameters_paper, row.loss, row.distilled]
        lines.append([rank, row.name, *sizes, *numbers, _note(row, best)])
    return PageTable([*header, "loss", "distilled", "note"], lines)


def _csv(order: Sequence[Row], best: set[str]) -> str:
    names = _size_names(order)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["name", *names, "parameters", "parameters_paper", "loss", "distilled", "front", "error"])
    for row in order:
        sizes = [row.sizes.get(name) for name in names]
        numbers = [row.parameters, row.parameters_paper, row.loss, row.distilled]
        writer.writerow([row.name, *sizes, *numbers, int(row.name in best), row.error])
    return file.getvalue()
