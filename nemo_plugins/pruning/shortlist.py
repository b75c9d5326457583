"""The best candidates of a search, pruned and distilled for a while in runs of their own. Imports no torch: it starts others.

The losses are measured in a process of their own too, so that the teacher is out of memory before the first distillation.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import candidates
from nemo_plugins.reporting import search_report
from nemo_plugins.reporting.search_report import Row
from nemo_plugins.runs import command_line, errors, output
from nemo_plugins.runs.command_line import key_of

MEASURED = "search-losses"  # stage that the losses are measured in
NOT_HANDED_ON = (  # each candidate has its own
    "run.name",
    "run.stage",
    "dry_run",
    "search",
    "prune.budget",
    *(f"prune.{size}" for size in candidates.SHORT),
    *(f"distill.{key}" for key in ("max_steps", "warmup_steps", "validate_every", "checkpoint_every")),
)


def run(cfg: Recipe, run: runs.Run) -> None:
    """Have the losses measured, distil the best, rank again and write the report.

    Raises:
        runs.Stopped: a stage was stopped; the same command goes on with it.
        SystemExit: what the measuring ended with where it has no losses, or 1 where a candidate failed.
    """
    own = [word for word in sys.argv[1:] if key_of(word) not in ("run.stage", "search.keep", "search.distill_steps")]
    code = _recipe("search", [*own, "search.distill_steps=0", f"run.stage={MEASURED}"])
    losses = run.folder.parent / MEASURED / "losses.json"
    if code not in (errors.DONE, errors.FAILED) or not losses.is_file():
        raise SystemExit(code)
    measured = json.loads(losses.read_text())
    rows = [Row(**row) for row in measured["rows"]]
    best = {
        row.name for row in search_report.ranked(rows)[: cfg.search.keep] if row.loss is not None and math.isfinite(row.loss)
    }
    rows = [_distilled(cfg, row) if row.name in best else row for row in rows]
    outputs = report(cfg, run, rows, measured["teacher"], lead(cfg))
    if any(row.error for row in rows):
        output.error(f"{run.folder}: some candidates failed; the same command tries them again")
        raise SystemExit(errors.FAILED)
    pairs, correlation = search_report.rank_correlation(rows)
    first = search_report.ranked(rows)[0]
    run.finish(
        outputs=outputs,
        next=commands(replace(cfg, search=replace(cfg.search, distill_steps=0)), first),
        metrics={
            "loss_teacher": measured["teacher"],
            "loss_best": first.loss,
            "distilled_best": first.distilled,
            "rank_correlation": correlation,
        },
        compared_after_distillation=pairs,
        **block(rows),
    )


def block(rows: list[Row]) -> dict[str, Any]:
    """The search's part of a summary: names from the best to the worst, and what each is and came to."""
    return {
        "ranking": [row.name for row in search_report.ranked(rows)],
        "candidates": {row.name: {**row.sizes, "loss": row.loss, "distilled": row.distilled} for row in rows},
    }


def lead(cfg: Recipe) -> list[str]:
    """What the report says above its table."""
    calibration, steps = cfg.prune.calibration, cfg.search.distill_steps
    said = [
        f"Importance from {calibration.samples:,} samples of {calibration.seq_length:,} tokens, measured once; "
        f"criterion of depth: {cfg.prune.criterion.value}.",
        "Loss on held-out text in nats a token, straight after pruning.",
    ]
    return [*said, f"The best {cfg.search.keep} were distilled for {steps:,} steps."] if candidates.distils(cfg) else said


def report(cfg: Recipe, run: runs.Run, rows: list[Row], teacher: float, lines: list[str]) -> dict[str, Path]:
    """Write the report and print the table. Returns what was written, by name."""
    parameters = Architecture.from_config(cfg.model).parameters()
    title = f"{cfg.run.name}: students of {cfg.model.name}"
    outputs = search_report.write(run.folder, title, rows, (parameters, teacher), lines)
    search_report.show(rows, (parameters, teacher))
    return outputs


def overrides(cfg: Recipe, row: Row) -> list[str]:
    """What a stage of a candidate is told beyond the search's own overrides."""
    steps = cfg.search.distill_steps
    short = [f"distill.{key}={steps}" for key in ("max_steps", "validate_every", "checkpoint_every")] if steps else []
    short += [f"distill.warmup_steps={min(cfg.distill.warmup_steps, steps // 10)}"] if steps else []
    name = command_line.override("run.name", f"{cfg.run.name}/{row.name}")
    return [*(f"prune.{key}={value}" for key, value in row.sizes.items()), *short, name]


def commands(cfg: Recipe, row: Row) -> list[str]:
    """The lines that prune and distil a candidate."""
    own = [word for word in sys.argv[1:] if not _replaced(word)]
    return [command_line.line(recipe, [*own, *overrides(cfg, row)]) for recipe in ("prune", "distill")]


def _distilled(cfg: Recipe, row: Row) -> Row:
    """The candidate with its loss after a short distillation, or with what failed; the others go on."""
    folder = runs.run_root(cfg) / row.name
    own = [word for word in sys.argv[1:] if not _replaced(word)]
    for recipe in ("prune", "distill"):
        output.say(f"{row.name}: {recipe}")
        code = _recipe(recipe, [*own, *overrides(cfg, row)])
        if code == errors.RESUMABLE:
            raise runs.Stopped(f"{row.name}: {recipe}")
        if code:
            output.error(f"{row.name}: {recipe} ended with exit code {code}")
            return replace(row, error=f"{recipe} failed, see {folder / recipe / 'log.txt'}")
    summary = json.loads((folder / "distill" / "summary.json").read_text())
    return replace(row, distilled=summary["metrics"]["val_loss"])


def _recipe(name: str, words: list[str]) -> int:
    return runs.process([sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), *words])


def _replaced(word: str) -> bool:
    key = key_of(word)
    return word.startswith("-") or any(key == name or key.startswith(f"{name}.") for name in NOT_HANDED_ON)
