"""The models of an evaluation: those that are named, else the teacher and whatever the run's stages left. Imports no torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.runs import paths
from nemo_plugins.runs.fingerprint import fingerprint
from nemo_plugins.runs.stages import Stage, by_name, students

BESIDE = ("imatrix", "f32", "f16")  # .gguf files that are no model, or lose nothing of one that is measured by itself
ASIDE = re.compile(r"\.old-\d+$")  # what force=true has moved out of the way
RECIPE = re.compile(r"recipes/(\w+)\.py")


@dataclass(frozen=True)
class FinishedStage:
    """A finished stage of a run."""

    folder: Path
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def declared(self) -> Stage | None:
        """The declaration of its recipe; None of one that is not ours."""
        return by_name().get(self.recipe)

    @property
    def recipe(self) -> str:
        """The recipe that ran it, from its command; the folder's name where that does not tell."""
        match = RECIPE.search(self.summary.get("command", ""))
        return match[1] if match else self.name.partition("-")[0]

    def output(self, name: str) -> Path | None:
        """What it left, where that is still there."""
        path = self.summary.get("outputs", {}).get(name)
        return self.folder / path if path and (self.folder / path).exists() else None


def stages(run: Path) -> list[FinishedStage]:
    """The finished stages directly below a run's folder, in the order in which they began."""
    files = [file for file in sorted(run.glob("*/summary.json")) if not ASIDE.search(file.parent.name)]
    finished = [FinishedStage(file.parent, json.loads(file.read_text())) for file in files]
    return sorted(finished, key=lambda stage: stage.summary.get("started", ""))


def trained(done: list[FinishedStage]) -> list[FinishedStage]:
    """Those that left a student's checkpoint, in the order of a chain."""
    order = students()[::-1]
    left = [stage for stage in done if stage.recipe in order and stage.output("checkpoint")]
    return sorted(left, key=lambda stage: order.index(stage.recipe))


def derived(cfg: Recipe) -> dict[str, str]:
    """The teacher, and each student that a stage of the run left, by name: checkpoints in a chain's order, then other folders.

    A quantisation is any stage that leaves Hugging Face folders or `.gguf` files and is no conversion.
    """
    models = {cfg.eval.teacher: cfg.model.path or ""}
    done = stages(paths.run_root(cfg))
    for stage in trained(done):
        student = stage.declared.student if stage.declared else None
        name = student.name if student and stage.name == stage.recipe else stage.name
        models[name] = str(stage.output("checkpoint"))
    for stage in done:
        if stage.declared is None or stage.declared.formats:
            models |= {name: str(path) for name, path in _formats(stage).items()}
    return models


def _formats(stage: FinishedStage) -> dict[str, Path]:
    """What a stage like a quantisation left: Hugging Face folders and `.gguf` files, by format.

    Those of another model than the run's student (`teacher-quantize`) bear its name before the format's.
    """
    files = {name: stage.folder / path for name, path in stage.summary.get("outputs", {}).items() if name not in BESIDE}
    kept = {name: path for name, path in files.items() if path.suffix == ".gguf" or (path / "config.json").is_file()}
    whose = stage.name.replace(stage.recipe, "").strip("-")
    if list(kept) == ["hf"]:
        return {stage.name: kept["hf"]}
    return {f"{whose}-{name}" if whose else name: path for name, path in kept.items()}


def described_by(path: Path) -> Path:
    """The Hugging Face folder with a model's tokenizer and configuration: of a `.gguf`, the one that it was made from."""
    if path.suffix != ".gguf":
        return path
    for folder in path.parents:
        if (file := folder / "summary.json").is_file():
            source = (json.loads(file.read_text()).get("source") or {}).get("path")
            return Path(source) if source else path.parent
    return path.parent


def export_of(run: Path, checkpoint: Path) -> Path | None:
    """The Hugging Face folder that a stage of the run has already made of a checkpoint, as the checkpoint is now."""
    for stage in stages(run):
        sources = {Path(source).resolve(): then for source, then in stage.summary.get("inputs", {}).items()}
        if stage.recipe == "convert" and list(sources) == [checkpoint.resolve()] and (folder := stage.output("hf")):
            if fingerprint(checkpoint) in sources.values():
                return folder
    return None


def has_chat_template(path: Path) -> bool:
    """Whether a Hugging Face folder, or the description in a NeMo checkpoint, has a chat template."""
    for file in [*path.glob("chat_template.*"), *(path / "context").rglob("chat_template.*")]:
        if file.stat().st_size:
            return True
    for file in [*path.glob("tokenizer_config.json"), *(path / "context").rglob("tokenizer_config.json")]:
        if json.loads(file.read_text()).get("chat_template"):
            return True
    return False
