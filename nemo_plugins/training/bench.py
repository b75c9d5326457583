"""`recipes/bench.py` with `bench.training`: how fast a training stage is and what it holds, beside what its plan says."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.planning import training_bench_plan
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.planning.training_bench_plan import Figures
from nemo_plugins.reporting import page
from nemo_plugins.runs import output
from nemo_plugins.runs.folder import metrics, write
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name
from nemo_plugins.serving.timing import Spread

COLUMNS = ["", "measured", "quartiles", "plan", "measured / plan"]


def run(cfg: Recipe, run: runs.Run) -> None:
    """Run the stage's own recipe for a few steps, and write what they took; their checkpoints are removed.

    In a job every process starts one of the stage's, which find each other as this job's processes would.

    Raises:
        SystemExit: with the stage's exit code where it fails.
    """
    name, words = training_bench_plan.training(cfg), training_bench_plan.words(cfg)
    if training_bench_plan.invents_text(cfg):
        train = training_bench_plan.section(cfg)
        random_tokens(training_bench_plan.tokens(cfg), cfg.model.vocab_size, train.seq_length, train.global_batch_size)
    if code := runs.process([sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), *words]):
        raise SystemExit(code)
    if not run.is_writer:
        return
    cut = compose(words)
    logged = metrics(runs.run_root(cut) / str(by_name()[name].folder_of(cut)))
    made = measured([line for line in logged if "step_seconds" in line], cfg.bench.warmup)
    made["hours"] = made["step_seconds"]["median"] * training_bench_plan.section(cfg).max_steps / 3600
    whole = training_bench_plan.figures(cfg, training_bench_plan.planned(cfg))
    compared = table(made, whole, training_bench_plan.section(cfg).max_steps)
    output.tables(Plan(f"{cfg.run.name}: {name}", [compared]))
    lines = [f"**{compared.title}**", "", *page.markdown(page.PageTable(compared.columns, compared.rows)), ""]
    write(run.folder / "table.md", "\n".join(lines))
    shutil.rmtree(runs.run_root(cut))
    for suffix in (".bin", ".idx"):
        Path(f"{training_bench_plan.tokens(cfg)}{suffix}").unlink(missing_ok=True)
    run.finish(
        outputs={"table": run.folder / "table.md"},
        next=runs.command(cfg, name),
        metrics={key: made[key] for key in ("tokens_per_second", "mfu", "peak_memory_bytes", "hours")},
        training={"stage": name, **made, "plan": asdict(whole)},
    )


def measured(lines: Sequence[dict[str, Any]], warmup: int) -> dict[str, Any]:
    """Median and quartiles of the steps after `warmup`; the most memory of rank 0 in any."""
    timed = lines[warmup:]
    shares = [line["mfu"] for line in timed if "mfu" in line]
    return {
        "steps": len(timed),
        "step_seconds": asdict(Spread.of([line["step_seconds"] for line in timed])),
        "tokens_per_second": Spread.of([line["tokens_per_second"] for line in timed]).median,
        "mfu": Spread.of(shares).median if shares else None,
        "peak_memory_bytes": max(line["peak_memory_bytes"] for line in lines),
    }


def table(made: dict[str, Any], whole: Figures, steps: int) -> Table:
    """What was measured beside what the plan says of `steps` steps."""
    step = 3600 * whole.hours / steps
    seconds = made["step_seconds"]
    rate = made["tokens_per_second"]
    rows = [
        _row("seconds a step", seconds["median"], step, f"{seconds['low']:,.4g} to {seconds['high']:,.4g}"),
        _row("tokens/s", rate, rate * seconds["median"] / step),
        _row("MFU", made["mfu"], whole.mfu),
        _row("GiB at most", made["peak_memory_bytes"] / 2**30, whole.bytes / 2**30),
        _row(f"hours of {steps:,} steps", made["hours"], whole.hours),
    ]
    return Table(f"{made['steps']} steps", rows, COLUMNS)


def _row(what: str, seen: float | None, planned: float | None, quartiles: str = "") -> tuple[str, ...]:
    seen_text, planned_text = ("" if value is None else f"{value:,.4g}" for value in (seen, planned))
    return what, seen_text, quartiles, planned_text, f"{seen / planned:.2f}" if seen and planned else ""


def random_tokens(prefix: Path, vocabulary: int, seq_length: int, sequences: int) -> None:
    """Write a Megatron `.bin/.idx` pair of so many documents and one more, unless it is there.

    Every process of a job may do it at once: all write the same bytes, each to a name of its own first.
    """
    if prefix.with_suffix(".idx").is_file():
        return
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    kind, random = DType.optimal_dtype(vocabulary), np.random.default_rng(0)
    partial = prefix.with_name(f"{prefix.name}.{uuid4().hex}")
    builder = IndexedDatasetBuilder(f"{partial}.bin", dtype=kind)
    for _ in range(sequences + 1):
        builder.add_document(random.integers(vocabulary, size=seq_length, dtype=kind), [seq_length])
    builder.finalize(f"{partial}.idx")
    for suffix in (".bin", ".idx"):
        os.replace(f"{partial}{suffix}", f"{prefix}{suffix}")
