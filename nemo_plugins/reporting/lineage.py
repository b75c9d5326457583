"""Where a model comes from: every stage of a run with what it read, how it was configured, what it cost and what with."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nemo_plugins.evaluation.run_outputs import RECIPE, FinishedStage, stages
from nemo_plugins.models import hf_config
from nemo_plugins.reporting import headline
from nemo_plugins.reporting.heldout_losses import places
from nemo_plugins.reporting.page import Cell, PageTable, Picture, Section, sourced
from nemo_plugins.runs import command_line, output
from nemo_plugins.runs.stages import students

HALF = ("bf16", "f16", "fp16")  # formats of 16 bits a weight


@dataclass(frozen=True)
class Lineage:
    """The stages of a run, baselines and candidates included, by their folder below it."""

    run: Path
    stages: dict[str, FinishedStage]

    def figure(self, stage: str, *keys: str, show: Callable[[Any], str] = "{:.4f}".format) -> Cell:
        """A number of a stage's summary, with its place; a dash where there is none."""
        return sourced(self.stages[stage].summary, stage, keys, show)


def read(run: Path) -> Lineage:
    """The finished stages of a run and of the runs in it, in the order in which they began."""
    stages_by_name = {stage.name: stage for stage in stages(run)}
    for folder in sorted(path for path in run.iterdir() if path.is_dir()):
        if not (folder / "summary.json").is_file():
            stages_by_name |= {f"{folder.name}/{stage.name}": stage for stage in stages(folder)}
    return Lineage(run, dict(sorted(stages_by_name.items(), key=lambda pair: pair[1].summary.get("started", ""))))


def sections(chain: Lineage) -> list[Section]:
    """Stages, their settings, held-out losses, curves and versions."""
    parts = [Section("Lineage", [stage_table(chain), settings_table(chain)])]
    losses = loss_table(chain)
    if losses.rows:
        parts.append(Section("Loss on held-out text", ["Nats a token, lower is better; as the stages measured it.", losses]))
    parts += curves(chain)
    return parts


def stage_table(chain: Lineage) -> PageTable:
    """A row for each stage: what it started from, what it cost."""
    rows: list[list[Cell]] = []
    for name, stage in chain.stages.items():
        rows.append(
            [
                name,
                _read(chain.run, stage),
                stage.summary.get("started", "–").replace("T", " ").partition("+")[0],
                chain.figure(name, "seconds", show=output.duration),
                chain.figure(name, "peak_memory_bytes", show=lambda value: f"{value / 2**30:.1f}"),
            ]
        )
    return PageTable(["stage", "read", "began (UTC)", "took", "GiB at most"], rows)


def settings_table(chain: Lineage) -> PageTable:
    """A row for each stage: configuration and data."""
    rows: list[list[Cell]] = []
    for name, stage in chain.stages.items():
        file = stage.folder / "config.yaml"
        config = OmegaConf.load(file) if file.is_file() else OmegaConf.create()
        if (declared := stage.declared) is None:
            continue
        section = declared.of_config
        values = ((key, OmegaConf.select(config, f"{section}.{key}")) for key in declared.settings)
        said = ", ".join(f"{key} {value}" for key, value in values if value is not None)
        data = OmegaConf.select(config, f"{section}.{declared.data}") if declared.data else None
        if said or data:
            rows.append([name, said or "–", ", ".join(map(str, data)) if data else "–"])
    return PageTable(["stage", "settings", "data"], rows)


def loss_table(chain: Lineage) -> PageTable:
    """Held-out loss of each model of the run."""
    found = places({name: stage.summary for name, stage in chain.stages.items()})
    rows = [[model, stage, chain.figure(stage, "metrics", metric)] for model, (stage, metric) in found.items()]
    return PageTable(["model", "measured by", "loss"], rows)


def curves(chain: Lineage) -> list[Section]:
    """The pictures of training that the stages of the main chain have drawn."""
    parts = []
    for name, stage in chain.stages.items():
        picture = stage.folder / "plots" / "curves.png"
        if stage.recipe in students() and "/" not in name and picture.is_file():
            parts.append(Picture(picture, f"curves of {name}"))
    return [Section("Curves", parts)] if parts else []


def versions(chain: Lineage) -> Section:
    """Versions of what the numbers depend on; a package of which stages used two has both."""
    by_version: dict[str, list[str]] = {}
    for stage in chain.stages.values():
        for package, version in stage.summary.get("versions", {}).items():
            if version not in by_version.setdefault(package, []):
                by_version[package].append(version)
    return Section(
        "Versions", [PageTable(["package", "version"], [[name, ", ".join(had)] for name, had in by_version.items()])]
    )


def commands(chain: Lineage) -> list[tuple[str, str]]:
    """Each stage with the command that ran it; the interpreter and the checkout's path are left out."""
    return [(name, _command(stage.summary.get("command", ""))) for name, stage in chain.stages.items()]


def _command(command: str) -> str:
    """From the recipe on, as a user types it."""
    words = shlex.split(command)
    for number, word in enumerate(words):
        if recipe := RECIPE.search(word):
            return command_line.line(recipe[1], words[number + 1 :])
    return command


def _read(run: Path, stage: FinishedStage) -> str:
    """What a stage read, or that it drew weights itself."""
    if (seed := stage.summary.get(hf_config.RANDOM)) is not None:
        return f"random weights, seed {seed}"
    return ", ".join(_source(run, path) for path in stage.summary.get("inputs", {})) or "–"


def _source(run: Path, path: str) -> str:
    """An input by its place in the run, or by its last two names."""
    resolved = Path(path).resolve()
    if resolved.is_relative_to(run.resolve()):
        return str(resolved.relative_to(run.resolve()))
    return "/".join(Path(path).parts[-2:])


@dataclass(frozen=True)
class Rate:
    """Tokens a second, and what ran in which format."""

    tokens_per_second: float
    how: str


def speeds(chain: Lineage, models: Mapping[str, Mapping[str, Any]], subject: str) -> dict[str, Rate]:
    """What one stream comes to, where a benchmark of the run measured it in the format that a model is compared in.

    Args:
        models: of the evaluation, by name; `served.format` is a model's format.
        subject: the student that was timed.
    Returns: rates of one backend; of a format where both teacher and student were timed.
    """
    found: dict[str, Rate] = {}
    for stage in (one for one in chain.stages.values() if one.recipe == "bench"):
        rows = [row for row in stage.summary.get("rows", ()) if row.get("sequences") == 1 and not row.get("extrapolated")]
        rows = [row for row in rows if row.get("backend") == rows[0].get("backend")]
        rates = {(row["format"], row["model"]): row for row in reversed(rows)}
        for form in dict.fromkeys(row["format"] for row in rows):
            if not {(form, "teacher"), (form, "student")} <= rates.keys():
                continue
            for role in ("teacher", "student"):
                name = _timed(models, form, role, subject)
                if name:
                    how = f"{headline.BACKENDS.get(rows[0]['backend'], rows[0]['backend'])} {form.upper()}".strip()
                    rate = rates[form, role]["tokens_per_second"]["median"]
                    found.setdefault(name, Rate(rate, how))
    return found


def _timed(models: Mapping[str, Mapping[str, Any]], form: str, role: str, subject: str) -> str | None:
    """The model of an evaluation that was timed in a format as teacher or student; None where none is in that format.

    Weights of 16 bits are one format here: llama.cpp has no other than F16 for what is compared in bf16.
    """
    name = ("teacher" if role == "teacher" else subject) if form in HALF else f"teacher-{form}" if role == "teacher" else form
    if name not in models:
        return None
    its = (models[name].get("served") or {}).get("format")
    return name if form in HALF and its in HALF or form not in HALF and its in (None, form) else None
