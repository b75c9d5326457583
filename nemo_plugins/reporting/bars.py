"""Bar charts as SVG text: light enough for a recipe that imports neither numpy nor matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABEL, VALUE = 760, 230, 130  # pixels: of the drawing, left of the bars, right of them
ROW, BAR = 26, 16
COLOURS = ("#4c78a8", "#f58518", "#54a24b")  # by `group`: teacher, student, a third


@dataclass(frozen=True)
class Bar:
    """One bar: what it is, how long (at least 0, any unit) and that as text; `group` picks its colour."""

    label: str
    value: float
    text: str
    group: int = 0


def bars(title: str, rows: Sequence[Bar], limit: tuple[float, str] | None = None) -> str:
    """Horizontal bars on one scale from 0.

    Args:
        limit: a value that a dashed line marks, and what it is.
    Returns: an `<svg>` element; all text in it is escaped.
    """
    longest = max([row.value for row in rows] + ([limit[0]] if limit else [])) or 1.0
    scale = (WIDTH - LABEL - VALUE) / longest
    top = 2 * ROW if limit else ROW
    height = top + len(rows) * ROW + 8
    parts = [
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'style="max-width: 100%; height: auto" font-family="system-ui, sans-serif" font-size="13" fill="currentColor">',
        f'<text x="0" y="16" font-weight="bold">{escape(title)}</text>',
    ]
    for number, row in enumerate(rows):
        y, length = top + number * ROW, row.value * scale
        parts += [
            f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(row.label)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[row.group % len(COLOURS)]}"/>',
            f'<text x="{LABEL + length + 6:.1f}" y="{y + 13}">{escape(row.text)}</text>',
        ]
    if limit:
        x = LABEL + limit[0] * scale
        parts += [
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 6}" y2="{height - 6}" stroke="currentColor" stroke-dasharray="4 3"/>',
            f'<text x="{x:.1f}" y="{top - 10}" text-anchor="end">{escape(limit[1])}</text>',
        ]
    return "\n".join([*parts, "</svg>"])
