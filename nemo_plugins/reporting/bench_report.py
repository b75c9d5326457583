"""What `recipes/bench.py` found: a table for the terminal and for people, a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.planning import bench_plan, devices
from nemo_plugins.planning.bench_plan import GGUF_STAGES
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.reporting import page, plots
from nemo_plugins.runs import output, paths
from nemo_plugins.runs.folder import write as write_file

COLOURS = ("#4c78a8", "#f58518")
# a ratio, student to teacher, stands behind the number that it is of; bytes bound what a further token takes
COLUMNS = [
    "backend", "format", "model", "sequences", "tokens/s", "quartiles", "x tokens/s", "ms a token", "x a token",
    "ms to the first", "GB a token", "GB/s", "x by bytes", "peak MB", "mJ a token",
]  # fmt: skip


def write(cfg: Recipe, folder: Path, rows: Sequence[dict], names: Sequence[str]) -> dict[str, Path]:
    """Print the tables, write `table.md` and `plots/speed.png`. Returns the files by name."""
    shown = [Table(title(rows), cells(cfg, rows, names), COLUMNS), paper()]
    if quality := sizes(cfg):
        shown.append(quality)
    output.tables(Plan("teacher against student" if len(names) == 2 else names[0], shown))
    lines = [
        line for one in shown for line in (f"**{one.title}**", "", *page.markdown(page.PageTable(one.columns, one.rows)), "")
    ]
    write_file(folder / "table.md", "\n".join(lines))
    return {"table": folder / "table.md", "plot": plot(rows, names, folder / "plots" / "speed.png")}


def title(rows: Sequence[dict]) -> str:
    """What the table is of, and its mark where a row has it."""
    return "Speed; extrapolated from fewer layers: *" if any(row["extrapolated"] for row in rows) else "Speed"


def speed_up(teacher: dict, student: dict) -> float:
    """By how much more tokens a second come, from the request to the last token."""
    return student["tokens_per_second"]["median"] / teacher["tokens_per_second"]["median"]


def decode_speed_up(teacher: dict, student: dict) -> float:
    """By how much sooner a further token comes once the first is there."""
    return teacher["each"]["median"] / student["each"]["median"]


def pair(rows: Sequence[dict], of: dict, names: Sequence[str]) -> tuple[dict, dict]:
    """The rows of both models that differ in nothing else, as they come: teacher and student."""
    alike = [row for row in rows if all(row[key] == of[key] for key in ("backend", "format", "sequences", "extrapolated"))]
    places = [row for row in alike if row["model"] == of["model"]]
    at = next(number for number, row in enumerate(places) if row is of or row == of)
    mine = [[row for row in alike if row["model"] == name][at] for name in names]
    return mine[0], mine[-1]


def cells(cfg: Recipe, rows: Sequence[dict], names: Sequence[str]) -> list[tuple]:
    """The rows of the table as text."""
    table_rows = []
    for row in rows:
        first, last = pair(rows, row, names)
        is_last = len(names) == 2 and row["model"] == names[-1]
        moved, each, rate = row["bytes_moved"], row["each"]["median"], row["tokens_per_second"]
        peak = row["peak_bytes"].get("gpu") or row["peak_bytes"].get("host")
        table_rows.append(
            (
                row["backend"],
                row["format"],
                row["model"] + (f", {row['path'].removeprefix('random weights, ')}" if "random" in row["path"] else ""),
                row["sequences"],
                f"{rate['median']:,.4g}{'*' * row['extrapolated']}",
                f"{rate['low']:,.4g} to {rate['high']:,.4g}",
                f"x{speed_up(first, row):.3f}" if is_last else "",
                f"{1e3 * each:,.4g}",
                f"x{decode_speed_up(first, row):.3f}" if is_last else "",
                f"{1e3 * row['first']['median']:,.4g}",
                f"{moved / 1e9:,.3g}" if moved else "",
                f"{moved / each / 1e9:,.3g}" if moved else "",
                f"x{first['bytes_moved'] / moved:.3f}" if is_last and moved else "",
                f"{peak / 1e6:,.0f}" if peak else "",
                f"{1e3 * row['joules_per_token']:,.4g}" if row["joules_per_token"] is not None else "",
            )
        )
        if cfg.bench.device and moved:
            device = devices.load(cfg.bench.device, "bench.device")
            bound = row["sequences"] * device.bytes_per_second / moved  # one reading of the weights serves all of them
            blank = ("",) * (len(COLUMNS) - 5)
            table_rows.append((f"bound, {device.name}", row["format"], row["model"], row["sequences"], f"{bound:,.4g}", *blank))
    return table_rows


def paper() -> Table:
    """The paper's own measurement, quoted."""
    figures = bench_plan.papers_row()
    rate, each, first = figures["tokens_per_second"], figures["milliseconds"], figures["first_token_milliseconds"]
    rows = []
    for role in ("teacher", "student"):
        faster = f"x{figures['speed_up']:.3f}" if role == "student" else ""
        sooner = f"x{each['teacher'] / each['student']:.3f}" if role == "student" else ""
        bound = f"x{figures['bound']:.3f}" if role == "student" else ""
        rows.append((role, f"{rate[role]:.2f}", faster, f"{each[role]:.2f}", sooner, f"{first[role]:.2f}", bound))
    return Table(
        f"Quoted, not measured here: arXiv 2603.11881, {figures['device']}, bf16, one stream",
        rows,
        ["", "tokens/s", "x tokens/s", "ms a token", "x a token", "ms to the first", "x by bytes"],
    )


def sizes(cfg: Recipe) -> Table | None:
    """Size and quality of each format, from what the run's quantisations left."""
    rows = []
    for role, stage in GGUF_STAGES.items():
        folder = paths.find(cfg, stage)
        if folder:
            formats = json.loads((folder / "summary.json").read_text())["formats"]
            rows += [
                (
                    role,
                    target,
                    f"{numbers['bytes'] / 1e6:,.2f}",
                    f"{numbers['bits']:.2f}",
                    *(f"{numbers[key]:{form}}" if key in numbers else "" for key, form in (("kl", ".5f"), ("top1", ".2%"))),
                    f"{numbers['perplexity']:.3f}" if "perplexity" in numbers else "",
                    f"{numbers['greedy_equal']}/{numbers['greedy_of']}" if "greedy_of" in numbers else "",
                )
                for target, numbers in formats.items()
            ]
    columns = ["", "format", "MB", "bits a weight", "KL", "top-1", "perplexity", "greedy equal"]
    return Table("Size and quality, against the folder that each was made from", rows, columns) if rows else None


def plot(rows: Sequence[dict], names: Sequence[str], path: Path) -> Path:
    """Tokens a second of both models, a group of bars a backend, format and number of sequences; quartiles as whiskers."""
    from matplotlib import pyplot

    extrapolated = any(row["extrapolated"] for row in rows)
    shown = [row for row in rows if row["extrapolated"] == extrapolated]
    groups = list(dict.fromkeys((row["backend"], row["format"], row["sequences"]) for row in shown))
    figure, axes = pyplot.subplots(figsize=(max(6, 1.6 * len(groups)), 4))
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        mine = {
            (row["backend"], row["format"], row["sequences"]): row["tokens_per_second"] for row in shown if row["model"] == name
        }
        places = [at + (number - (len(names) - 1) / 2) * width for at in range(len(groups))]
        heights = [mine[group]["median"] for group in groups]
        spread = [
            [max(0.0, mine[group]["median"] - mine[group]["low"]) for group in groups],
            [max(0.0, mine[group]["high"] - mine[group]["median"]) for group in groups],
        ]
        axes.bar(places, heights, width, label=plots.plain(name), color=COLOURS[number], yerr=spread, capsize=3)
    labels = [f"{backend}\n{target}" + (f"\n{count} at once" if count > 1 else "") for backend, target, count in groups]
    axes.set_xticks(range(len(groups)), labels)
    axes.set_ylabel("tokens a second" + (", extrapolated" if extrapolated else ""))
    axes.legend()
    return plots.write_png(figure, path)
