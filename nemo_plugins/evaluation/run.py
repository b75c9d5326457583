"""The evaluation stage: every model on every task of the suite, each result kept as soon as it is there."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from nemo_plugins import runs
from nemo_plugins.configs.schema import Lacking, Recipe
from nemo_plugins.evaluation import cache, exports, harness, identity, run_outputs, summary
from nemo_plugins.planning import eval_tasks
from nemo_plugins.runs import output
from nemo_plugins.runs.atomic import whole_file
from nemo_plugins.runs.progress import Progress

SERVED = "bf16"  # format in which weights that are not quantised are compared, however they lie on the disk
LONGEST = 300  # characters of a library's complaint


def run(cfg: Recipe, run: runs.Run) -> None:
    """Evaluate, write `results/`, `samples/` and `summary.json`, and print the table.

    Raises:
        Failed: a task or model could not be run and eval.missing=stop; all other results are kept.
    """
    folders = exports.folders(cfg, run)  # by a process whose environment is a chain's: it need not import NeMo anew
    harness.quiet()
    without_chat_template = [name for name, path in folders.items() if not _usable(cfg, path)]
    folders = {name: path for name, path in folders.items() if name not in without_chat_template}
    described = {name: _described(cfg, path, name) for name, path in folders.items()}
    for path in (*folders.values(), *map(runs.resolve, cfg.eval.heldout_text)):
        run.input(path)
    loaded, lacking = _load(cfg)
    lacking |= dict.fromkeys(without_chat_template, "no chat template")
    results: dict[str, dict[str, cache.Result]] = {name: {} for name in folders}
    with Progress("eval", len(folders) * sum(task.items for task in loaded)) as progress:
        for name, path in folders.items():
            evaluate(cfg, run, (name, path, described[name]["identity"]), loaded, results[name], lacking, progress)
    if not any(results.values()) or (lacking and cfg.eval.missing is Lacking.stop):
        raise runs.Failed(*_failure(results, lacking))
    # models without results are listed in `lacking`; they lower no other model's average
    finish(cfg, run, {name: mine for name, mine in results.items() if mine}, described, lacking)


def evaluate(
    cfg: Recipe,
    run: runs.Run,
    model: tuple[str, Path, str],
    loaded: list[harness.Loaded],
    results: dict[str, cache.Result],
    lacking: dict[str, str],
    progress: Progress,
) -> None:
    """One model on all tasks: what is kept is taken, the rest run. Fills `results`, and `lacking` with what went wrong."""
    name, path, which = model
    lm = None
    for task in loaded:
        file = cache.place(Path(cfg.run.root).expanduser(), which, task.name, task.settings)
        result = None
        try:
            result = cache.load(file)
        except cache.Damaged as damage:
            output.error(f"{damage}: {task.name} is run again for {name}")
        if result is None:
            progress.now(f"{name}: {task.name}")
            try:
                lm = lm or harness.model(cfg, path)
                began = time.monotonic()
                with harness.answered(progress.part, task.items):
                    said = harness.run(cfg, lm, task)
            except Exception as error:  # of whatever a task's own code may raise; it is told, and costs no other result
                lacking[f"{name}: {task.name}"] = complaint(error)
                progress.skip(task.items)
                continue
            seconds = time.monotonic() - began
            count = len(said.samples)
            result = cache.Result(
                said.score, said.stderr, said.metrics, count, said.resampled, round(seconds, 3), task.settings
            )
            cache.keep(file, result, said.samples)
            progress.advance(task.items)
        else:
            progress.skip(task.items)
        results[task.name] = result
        _copy(file, run.folder / "results" / name / f"{task.name}.json")
        _copy(cache.samples_of(file), run.folder / "samples" / name / f"{task.name}.jsonl.gz")


def finish(cfg: Recipe, run: runs.Run, results: dict[str, dict], described: dict[str, dict], lacking: dict[str, str]) -> None:
    """Write the summary and print the table."""
    models = summary.models_block(cfg.eval, results, described)
    subject = summary.subject(cfg.eval, models)
    tell(cfg, models)
    own = models[subject]
    metrics = {"average": own.get("average"), "recovery": (own.get("against_teacher") or {}).get("recovery")}
    chosen = eval_tasks.chosen(cfg.eval)
    suite = {
        "name": cfg.eval.suite,
        "title": cfg.eval.title,
        "source": cfg.eval.source,
        "averaged": summary.averaged(cfg.eval, results),
        "forms": {name: task.form.value for name, task in chosen.items()},
        "confidence": cfg.eval.confidence,
        "resamples": cfg.eval.resamples,
        "limit": cfg.eval.limit,
        "chat_template": cfg.eval.chat_template,
        "dtype": harness.dtype(cfg),
        "backend": cfg.eval.backend.value,
    }
    run.finish(
        outputs={"results": run.folder / "results", "samples": run.folder / "samples"},
        metrics={key: value for key, value in metrics.items() if value is not None},
        next=runs.command(cfg, "report"),
        suite=suite,
        subject=subject,
        teacher=cfg.eval.teacher if cfg.eval.teacher in models else None,
        tasks=own["tasks"],
        models=models,
        not_run=lacking,
        asked=list(cfg.eval.models),
    )


def tell(cfg: Recipe, models: dict[str, Any]) -> None:
    """The table of models on the terminal."""
    from rich.table import Table

    table = Table(title=f"{cfg.eval.suite}: {cfg.eval.title}", title_justify="left")
    table.add_column("model", overflow="fold")
    sure = f"{cfg.eval.confidence:.0%}"
    for column in ("parameters", "average", sure, "recovery", sure, "bits/byte"):
        table.add_column(column, justify="right")
    for name, block in models.items():
        teacher = block.get("against_teacher") or {}
        text = [task["score"] for key, task in block["tasks"].items() if task["metric"].startswith("bits_per_byte")]
        table.add_row(
            name,
            f"{block['parameters']:,}" if block.get("parameters") else "–",
            percent(block.get("average")),
            between(block.get("average_interval")),
            percent(teacher.get("recovery")),
            between(teacher.get("recovery_interval")),
            f"{text[0]:.4f}" if text else "–",
        )
    runs.console().print(table)


def percent(value: float | None) -> str:
    """A share as the paper prints it, times 100; a dash for None."""
    return "–" if value is None else f"{100 * value:.2f}"


def between(interval: tuple[float, float] | None) -> str:
    """An interval of shares, times 100."""
    return "–" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def complaint(error: Exception) -> str:
    """What a library said, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    kind = "" if isinstance(error, runs.UserError) else f"{type(error).__name__}: "
    return f"{kind}{text[:LONGEST]}"


def _load(cfg: Recipe) -> tuple[list[harness.Loaded], dict[str, str]]:
    """The tasks that are there and have their data; of the others, why not."""
    absent = eval_tasks.lacking(cfg.eval)
    loaded, lacking = [], dict(absent)
    for name, task in eval_tasks.chosen(cfg.eval).items():
        if name in absent:
            continue
        try:
            loaded.append(harness.load(cfg, name, task))
        except Exception as error:  # of whatever a task's own code or its data set may raise
            lacking[name] = complaint(error)
            if isinstance(error, ConnectionError):
                harness.give_up_the_hub()
    return loaded, lacking


def _usable(cfg: Recipe, path: Path) -> bool:
    """Whether a model can be asked as configured; the plan has said so of those that cannot."""
    return not cfg.eval.chat_template or run_outputs.has_chat_template(run_outputs.described_by(path))


def _described(cfg: Recipe, path: Path, name: str) -> dict[str, Any]:
    size, quantised, stored = identity.size(path), identity.quantised(path), identity.stored_as(path)
    parameters = identity.parameters(path) if path.is_dir() else None
    served = (stored, size) if quantised or not parameters else (SERVED, 2 * parameters)
    return {
        "path": str(path),
        "source": cfg.eval.models[name],
        "identity": runs.fingerprint(path),
        "parameters": parameters,
        "bytes": size,
        "stored_as": stored,
        "quantised": quantised,
        "served": dict(zip(("format", "bytes"), served, strict=True)),
    }


def _copy(source: Path, to: Path) -> None:
    """A copy in the stage's folder, which is whole without the cache."""
    with whole_file(to) as partial:
        shutil.copy(source, partial)


def _failure(results: dict[str, dict], lacking: dict[str, str]) -> list[str]:
    kept = sum(len(mine) for mine in results.values())
    lines = [f"  {name}: {why}" for name, why in lacking.items()]
    if any(why.startswith("ConnectionError") for why in lacking.values()):
        lines.append("data sets of the hub: run this once where there is internet, and take its cache (HF_HOME) along")
    return [
        f"{len(lacking)} of the evaluation could not be run:",
        *lines,
        f"{kept} results are kept; the same command goes on with what is missing",
        "eval.missing=skip finishes without it; eval.only=[<task>] asks for some tasks alone",
    ]
