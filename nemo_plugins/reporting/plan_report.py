"""What `recipes/plan.py` leaves: the tables on the terminal, `summary.json` and one page with bar charts."""

from __future__ import annotations

from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs.schema import Format, Recipe
from nemo_plugins.planning import cost_plan, estimate
from nemo_plugins.planning.budget import SIZES, gigabytes
from nemo_plugins.planning.estimate import Estimate
from nemo_plugins.planning.plan import Plan, gib
from nemo_plugins.reporting.bars import Bar, bars
from nemo_plugins.reporting.page import Drawing, PageTable, Section, page
from nemo_plugins.runs import output, paths
from nemo_plugins.runs.command_line import override


def run(cfg: Recipe, run: runs.Run) -> None:
    """Print and write the plan."""
    if not run.is_writer:
        return
    plan, made_of = cost_plan.plan(cfg), estimate.make(cfg)
    output.tables(plan)
    report = write(run.folder / "report.html", plan, made_of)
    metrics = {"gpu_hours": made_of.gpu_hours, "days": made_of.days}
    run.finish({"report": report}, metrics, next=_next(cfg, made_of), **made_of.summary())


def write(path: Path, plan: Plan, made_of: Estimate) -> Path:
    """The page: charts first, then every table of the plan. Returns `path`."""
    sections = [Section("At a glance", [Drawing(chart) for chart in charts(made_of)])]
    for part in plan.tables:
        rows = [[str(cell) for cell in row] for row in part.rows]
        sections.append(Section(part.title, [PageTable(part.columns or [""] * max(map(len, rows)), rows)]))
    lead = [f"warning: {text}" for text in plan.warnings] or ["All of it fits."]
    return page(path, plan.title, lead, sections)


def charts(made_of: Estimate) -> list[str]:
    """SVG: parameters, memory of a training GPU, bytes in each format on the device that serves, time of a token."""
    both = (("teacher", made_of.teacher), ("student", made_of.student))
    parameters = [Bar(name, model.parameters(), f"{model.parameters():,}", group) for group, (name, model) in enumerate(both)]
    memory = [Bar(name, value, gib(value)) for name, value in vars(made_of.memory).items() if value]
    memory.append(Bar("total", made_of.memory.total, gib(made_of.memory.total), 1))
    served = [
        (format, group, name, made_of.served(model, format)) for format in Format for group, (name, model) in enumerate(both)
    ]
    usable = made_of.device.usable_bytes
    return [
        bars("Parameters", parameters),
        bars(
            "Memory of one GPU in the distillation",
            memory,
            (made_of.gpu.memory_bytes, f"{made_of.gpu.name}: {gib(made_of.gpu.memory_bytes)}"),
        ),
        bars(
            f"Weights and cache of {made_of.context:,} tokens by format",
            [Bar(f"{format}, {name}", one.total, gigabytes(one.total), group) for format, group, name, one in served],
            (usable, f"{made_of.device.name}: {gigabytes(usable)} usable"),
        ),
        bars(
            f"Least time of a token on {made_of.device.name}",
            [
                Bar(f"{format}, {name}", one.milliseconds, f"{one.milliseconds:.2f} ms", group)
                for format, group, name, one in served
            ],
        ),
    ]


def _next(cfg: Recipe, made_of: Estimate) -> str:
    """The command that prunes to the student that was planned."""
    if cfg.prune.drop_layers:
        return paths.command(cfg, "prune", override("prune.drop_layers", cfg.prune.drop_layers))
    if cfg.experiment.name:  # names the sizes itself
        return paths.command(cfg, "prune")
    sizes = {key: getattr(made_of.student, key) for key in SIZES}
    changed = {key: value for key, value in sizes.items() if value != getattr(made_of.teacher, key)}
    return paths.command(cfg, "prune", *(override(f"prune.{key}", value) for key, value in changed.items()))
