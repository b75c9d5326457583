"""What a report would show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.evaluation import run_outputs
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.reporting import lineage, paper_mean, results
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.fingerprint import fingerprint


def plan(cfg: Recipe) -> Plan:
    """Validate a report. Raises UserError naming the key."""
    at_least(0, cfg.report, "report", "generations")
    others = results.read_all(cfg.report.results)
    run = paths.run_root(cfg)
    made = Plan(f"report on {run}")
    stages = run_outputs.stages(run)
    made.need("earlier", _any, cfg, stages)
    rows = [(stage.name, stage.recipe) for stage in stages]
    made.tables.append(Table("Finished stages", rows, ["stage", "recipe"], numbers=False))
    mean = paper_mean.measure(cfg.eval, stages, others)
    if mean.kept or others:
        made.tables.append(Table("The paper's benchmarks", _benchmarks(mean), numbers=False))
    made.sizes = f"{len(stages)} stages" if stages else ""
    return made


def stale(cfg: Recipe, summary: dict[str, Any]) -> bool:
    """Whether a finished report shows other stages, or other results of them, than the run has."""
    chain = lineage.read(paths.run_root(cfg))
    now = {stage.folder / "summary.json" for stage in chain.stages.values() if stage.recipe != "report"}
    shown = {Path(path): mark for path, mark in summary["inputs"].items()}
    gone = set(summary["stages"]) - chain.stages.keys()
    return bool(gone) or any(shown.get(file) != fingerprint(file) for file in now)


def _benchmarks(mean: paper_mean.PaperMean) -> list[tuple[str, str]]:
    """A row for each of the paper's benchmarks: where it is read from, or why it is missing."""
    read = {name: f"from {one.source}" for name, one in mean.kept.items()}
    rows = read | {name: f"missing: {why}" for name, why in mean.missing.items()}
    return [*rows.items(), ("mean recovery", f"over {len(mean.kept)} of {mean.total}")]


def _any(cfg: Recipe, stages: list[run_outputs.FinishedStage]) -> None:
    if not stages:
        raise UserError(
            f"{paths.run_root(cfg)} has no finished stage", "expected a run to report on; run one first, e.g.",
            f"  {paths.command(cfg, 'prune')}",
        )  # fmt: skip
