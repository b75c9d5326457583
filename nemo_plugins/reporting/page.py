"""A report that is one HTML file: text, tables and pictures in it, nothing fetched, no script."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from nemo_plugins.reporting import headline
from nemo_plugins.reporting.headline import Figure
from nemo_plugins.runs.folder import write


@dataclass(frozen=True)
class Sourced:
    """A number of a table with where it is written: the page carries both, so that every figure can be looked up.

    Attributes:
        text: as it is shown.
        source: file and place, e.g. `eval/summary.json#/models/sft/average` (RFC 6901).
    """

    text: str
    source: str


Cell = str | int | float | Sourced | None

# text that reads as a number: 1,234, −3.5 %, 9,216 of 14,336, 4.2 to 14.3
_NUMBER = re.compile(r"[+−-]?\d[\d,.]*( ?%| (of|to|±) [−-]?\d[\d,.]*)?")

# the policy keeps the page self-contained even if a text got round the escaping
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8886; --shade: #8882; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }}
.scroll {{ overflow-x: auto; margin: 1rem 0; }}
table {{ border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; max-width: 40rem; }}
th {{ background: var(--shade); }}
.n {{ text-align: right; white-space: nowrap; }}
.figures {{ display: grid; grid-template-columns: repeat(5, 1fr); gap: .6rem; margin: 1rem 0; }}
.figures div {{ background: var(--shade); border-radius: 6px; padding: .6rem .8rem; }}
.figures dt {{ font-size: .85rem; }}
.figures dd {{ margin: 0; font-size: .78rem; line-height: 1.35; overflow-wrap: break-word; }}
.figures + img {{ max-width: min(100%, 40rem); }}
.figures dd.value {{ font-size: 1.5rem; line-height: 1.2; font-weight: 600; margin: .1rem 0 .3rem; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }}
@media (max-width: 40rem) {{
  .figures {{ grid-template-columns: repeat(2, 1fr); }} .figures dd.value {{ font-size: 1.2rem; }}
  .figures div:last-child:nth-child(odd) {{ grid-column: span 2; }}
  body {{ margin: 1rem auto; }} h1 {{ font-size: 1.3rem; }} th, td {{ padding: .2rem .5rem; max-width: 16rem; }}
}}
img {{ max-width: 100%; height: auto; background: #fff; border-radius: 4px; display: block; margin: 1rem 0; }}
@media print {{
  body {{ margin: 0; max-width: none; font-size: 11pt; color: #000; background: #fff; }}
  .scroll {{ overflow: visible; }}
  img, tr {{ break-inside: avoid; }} h2 {{ break-after: avoid; }} thead {{ display: table-header-group; }}
}}
</style>
</head>
<body>
"""


def sourced(summary: Mapping[str, Any], stage: str, keys: Sequence[str | int], show: Callable[[Any], str]) -> Sourced | None:
    """A number of a stage's summary by its keys, with its place; None where it is not there or none."""
    value: Any = summary
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            return None
    return Sourced(show(value), headline.place(stage, *keys))


@dataclass(frozen=True)
class PageTable:
    """A header and rows. Cells that are numbers get thousands separators or four decimals; None shows as a dash."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Picture:
    """A PNG file, and what it shows for those who do not see it."""

    path: Path
    alt: str


@dataclass(frozen=True)
class Drawing:
    """An SVG element, put into the page as it is: who draws it escapes its text (`reporting/bars.py`)."""

    svg: str


@dataclass(frozen=True)
class Large:
    """Figures in large type, each with what it means below it."""

    figures: Sequence[Figure]


Part = str | PageTable | Picture | Drawing | Large


@dataclass(frozen=True)
class Section:
    """A heading, and paragraphs, tables and pictures in their order."""

    heading: str
    parts: Sequence[Part] = ()


def page(path: Path, title: str, lead: str | Sequence[Part], sections: Iterable[Section]) -> Path:
    """Write the report, whole or not at all.

    Args:
        path: the HTML file; its folder is made.
        lead: paragraph, or paragraphs, pictures and figures, under the title.
    Returns: `path`.
    """
    lines = [_HEAD.format(title=_text(title)), f"<h1>{_text(title)}</h1>\n"]
    lines += [_part(part) for part in ([lead] if isinstance(lead, str) else lead)]
    for section in sections:
        lines += [f"<h2>{_text(section.heading)}</h2>\n", *map(_part, section.parts)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, "".join(lines) + "</body>\n</html>\n")
    return path


def cell(value: Cell) -> str:
    """A cell as it is shown, not escaped: 1,234; 2.3456; 1.23e-05; – for None."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, Sourced):
        return value.text
    if isinstance(value, Integral):  # numpy's integers too
        return f"{value:,}"
    return f"{value:.4f}" if not math.isfinite(value) or value == 0 or 1e-3 <= abs(value) < 1e7 else f"{value:.3g}"


def markdown(table: PageTable) -> list[str]:
    """A table as lines of Markdown."""
    rows = [[_escaped(one) for one in row] for row in (table.header, ["---"] * len(table.header), *table.rows)]
    return [f"| {' | '.join(row)} |" for row in rows]


def _escaped(value: Cell) -> str:
    return " ".join(cell(value).replace("|", "\\|").split())


def _text(text: str) -> str:
    # a lone surrogate (an undecodable byte of a path or an error message) cannot be written as UTF-8
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))


def _part(part: Part) -> str:
    if isinstance(part, str):
        return f"<p>{_text(part)}</p>\n"
    if isinstance(part, Drawing):
        return f"{part.svg}\n"
    if isinstance(part, Large):
        return f'<dl class="figures">\n{"".join(map(_large, part.figures))}</dl>\n'
    if isinstance(part, Picture):
        data = base64.b64encode(part.path.read_bytes()).decode("ascii")
        return f'<img alt="{_text(part.alt)}" src="data:image/png;base64,{data}">\n'
    return _table(part)


def _large(figure: Figure) -> str:
    sources = _text(" ".join(figure.sources))
    return (
        f"<div><dt>{_text(figure.name)}</dt>"
        f'<dd class="value" data-sources="{sources}" title="{sources}">{_text(figure.value)}</dd>'
        f"<dd>{_text(figure.meaning)}</dd></div>\n"
    )


def _table(table: PageTable) -> str:
    """A column is aligned right where every cell of it is a number, its header too."""
    columns = len(table.header)
    ragged = [len(row) for row in table.rows if len(row) != columns]
    if ragged:
        raise ValueError(f"a table of {columns} columns ({', '.join(table.header)}) got a row of {ragged[0]} cells")
    numeric = [bool(table.rows) and all(_is_number(row[column]) for row in table.rows) for column in range(columns)]

    classes = [' class="n"' if right else "" for right in numeric]

    def line(tag: str, cells: Sequence[Cell]) -> str:
        shown = (f"<{tag}{style}{_from(one)}>{_text(cell(one))}</{tag}>" for one, style in zip(cells, classes, strict=True))
        return f"<tr>{''.join(shown)}</tr>\n"

    body = "".join(line("td", row) for row in table.rows)
    return f'<div class="scroll"><table>\n<thead>{line("th", table.header)}</thead>\n<tbody>\n{body}</tbody>\n</table></div>\n'


def _from(value: Cell) -> str:
    """Where a figure is written, as attributes of its cell."""
    if not isinstance(value, Sourced):
        return ""
    return f' data-source="{_text(value.source)}" title="{_text(value.source)}"'


def _is_number(value: Cell) -> bool:
    value = value.text if isinstance(value, Sourced) else value
    return not isinstance(value, str) or value in ("", "–") or bool(_NUMBER.fullmatch(value))
