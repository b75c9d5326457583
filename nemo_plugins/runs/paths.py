"""Where things are: files that a configuration names, models' weights, and what an earlier stage of a run left.

A relative path that starts with `assets/` means the repository's, any other the current directory's, so that a recipe finds
what ships with it from anywhere and a user's own files where the shell completes them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import fields
from pathlib import Path

from nemo_plugins.configs.schema import ModelConfig, Recipe, SizesConfig
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.models import hf_config
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.runs.command_line import command, override
from nemo_plugins.runs.errors import Unusable, UserError
from nemo_plugins.runs.stages import CORRECTED, by_name, checkpoints, students

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve(path: str | Path) -> Path:
    """The path that a configuration means; it need not exist."""
    path = Path(path).expanduser()
    if not path.is_absolute() and path.parts[:1] == ("assets",):
        return REPOSITORY / path
    return path


def architecture(model: ModelConfig) -> Architecture:
    """Sizes of the teacher."""
    return Architecture.from_config(model)


def student_sizes(cfg: Recipe) -> dict[str, int | None]:
    """Sizes of the student by name, None where the teacher's stays; with `drop_layers` the layers that are left."""
    if cfg.prune.drop_layers:
        return {"num_layers": cfg.model.num_layers - len(cfg.prune.drop_layers)}
    return {field.name: getattr(cfg.prune, field.name) for field in fields(SizesConfig)}


def hf_dtype(folder: str | Path) -> str:
    """Type of the weights of a Hugging Face folder as its `config.json` says it, else as they are stored; `float32` where it
    has none.

    Raises:
        ValueError: the file says another than `hf_config.DTYPES`.
    """
    from nemo_plugins.planning import hf_folder, weights  # here, for the planning modules import this package's errors

    folder = Path(folder)
    said = hf_config.dtype(json.loads((folder / "config.json").read_text()))
    if said or not any((folder / name).is_file() for name in (weights.WEIGHTS, weights.INDEX)):
        return said or "float32"
    kinds = {tensor.dtype for tensor in hf_folder.stored(folder, str(folder)).values()}
    return {"BF16": "bfloat16", "F16": "float16"}.get(kinds.pop() if len(kinds) == 1 else "", "float32")


def is_hub_id(path: str) -> bool:
    """Whether it could name a model on the hub; `assets/…` never does."""
    return bool(HUB_ID.fullmatch(path)) and not path.startswith("assets/")


def local_weights(path: str) -> Path | None:
    """The Hugging Face folder of a model: a local one, what a stage's folder has in `hf`, or a hub id's snapshot in the hub's
    cache; None: none of them is here."""
    folder = resolve(path)
    if folder.is_dir():
        inner = folder / "hf"
        return inner if (inner / "config.json").is_file() and not (folder / "config.json").is_file() else folder
    if not is_hub_id(path):
        return None
    cache = Path(os.environ.get("HF_HUB_CACHE") or hf_home() / "hub") / f"models--{path.replace('/', '--')}"
    reference = cache / "refs" / "main"
    if not reference.is_file():
        return None
    snapshot = cache / "snapshots" / reference.read_text().strip()
    return snapshot if snapshot.is_dir() else None


def weights_of(path: str | None, key: str) -> Path:
    """`local_weights` of what a configuration key gives. Raises UserError where it gives nothing, or what is not here."""
    if not path:
        raise UserError(f"{key} is not given", f"expected a Hugging Face folder or a hub id: {key}=<path>")
    folder = local_weights(path)
    if folder is None:
        raise UserError(weights_missing(key, path))
    return folder


def hf_home() -> Path:
    """Where the Hugging Face libraries keep models and data sets; below "~" as it stands for a user without a home."""
    return Path(os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface"))


def weights_missing(key: str, path: str) -> str:
    """What to say where `local_weights` finds nothing."""
    if not is_hub_id(path):
        return f"{key}: no folder {path}\nexpected a Hugging Face folder with config.json and *.safetensors"
    name = path.split("/")[1]
    return (
        f"{key}: the weights of {path} are not on this machine\n"
        f"fetch them where there is internet (the token, where the model wants one, from HF_TOKEN):\n"
        f"  {shlex.join(['huggingface-cli', 'download', path, '--local-dir', name])}\nthen give {override(key, name)}"
    )


def run_root(cfg: Recipe) -> Path:
    """`<run.root>/<run.name>`."""
    return Path(cfg.run.root).expanduser() / str(cfg.run.name)


def find(cfg: Recipe, stage: str) -> Path | None:
    """Folder of a finished stage: in this run, else in the one that it lies in (candidates share their parent's teacher)."""
    root, name = Path(cfg.run.root).expanduser(), Path(str(cfg.run.name))
    for level in (name, *name.parents):
        folder = root / level / stage
        if level != Path(".") and (folder / "summary.json").is_file():
            return folder
    return None


def earlier(cfg: Recipe, stage: str, output: str = "checkpoint") -> Path:
    """What an earlier stage of the same run left, `<run>/<stage>/<output>`.

    Raises:
        UserError: the stage has not finished; the message holds the command that runs it.
    """
    folder = find(cfg, stage)
    if folder and (folder / output).exists():
        return folder / output
    recipe, _, direction = stage.partition("-")
    extra = {"import": ["convert.to=nemo"], "export": ["convert.to=hf"]}.get(direction, [])
    raise UserError(
        f"{run_root(cfg) / stage / output} is not there",
        f"expected what a finished {stage} leaves; run it first:",
        f"  {command(cfg, recipe, *extra)}",
    )


def teacher(cfg: Recipe) -> Path:
    """The teacher's NeMo checkpoint: `teacher.path`, else the run's corrected teacher, else what `convert-import` left.

    Raises UserError where none of them is here.
    """
    if cfg.teacher.path:
        return checkpoint("teacher.path", cfg.teacher.path)
    return earlier(cfg, CORRECTED if find(cfg, CORRECTED) else "convert-import")


def uncorrected_teacher(cfg: Recipe) -> Path:
    """The teacher that a correction starts from: `teacher.path`, else what `convert-import` left. Raises UserError."""
    return checkpoint("teacher.path", cfg.teacher.path) if cfg.teacher.path else earlier(cfg, "convert-import")


def student(cfg: Recipe) -> Path:
    """The student: `student.path`, else what the run's `prune` left. Raises UserError where neither is here."""
    return checkpoint("student.path", cfg.student.path) if cfg.student.path else earlier(cfg, "prune")


def policy(cfg: Recipe, stage: str) -> Path:
    """What an alignment stage starts from: `student.path`, else the latest student that the run's earlier stages left.

    Raises UserError where neither is here.
    """
    if cfg.student.path:
        return checkpoint("student.path", cfg.student.path)
    before = students()[students().index(stage) + 1 :]
    wanted = next(name for name in before if not by_name()[name].optional)
    return earlier(cfg, next((name for name in before if find(cfg, name)), wanted))


def record(cfg: Recipe) -> Path:
    """Files of a recorded teacher: `teacher.record`, else what the run's `teacher-record` stage left. UserError: neither."""
    if cfg.teacher.record:
        folder = resolve(cfg.teacher.record)
        if not folder.is_dir():
            raise UserError(f"teacher.record: no folder {cfg.teacher.record}", "expected the folder of a recorded teacher")
        return folder / "record" if (folder / "record").is_dir() else folder
    recording = find(cfg, "teacher-record")
    if recording and (recording / "record").is_dir():
        return recording / "record"
    loss = cfg.distill.loss
    kept = f"top_k={loss.top_k}" if loss.draws is None else f"draws={loss.draws}"
    raise UserError(
        f"teacher.mode=cached: {run_root(cfg) / 'teacher-record' / 'record'} is not there",
        "expected what a finished recording leaves; record the teacher first:",
        f"  {command(cfg, 'distill', 'teacher.mode=record', f'distill.loss.{kept}')}",
    )


def newest_checkpoint(cfg: Recipe) -> Path:
    """The NeMo checkpoint that the run's latest finished stage left. Raises UserError where none has."""
    for stage in checkpoints():
        folder = find(cfg, stage)
        if folder and (folder / "checkpoint").exists():
            return folder / "checkpoint"
    raise UserError(
        f"no stage of {run_root(cfg)} has left a checkpoint",
        f"looked for {', '.join(checkpoints())}",
        f"run one first, e.g. {command(cfg, 'prune')}\nor name a checkpoint: convert.source=<folder>",
    )


def left_by(key: str, folder: Path, usual: tuple[str, ...]) -> list[str]:
    """The override that names what a stage left, where its folder is not one of those that the next stage looks into."""
    return [] if folder.parent.name in usual else [override(key, folder)]


def export_command(cfg: Recipe, folder: Path) -> str:
    """The line that exports the checkpoint that a training has left in its folder."""
    return command(cfg, "convert", "convert.to=hf", *left_by("convert.source", folder / "checkpoint", checkpoints()))


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is a NeMo checkpoint."""
    return (folder / "context").is_dir() and (folder / "weights").is_dir()


def description(checkpoint: Path) -> Path | None:
    """The folder in a NeMo checkpoint with the Hugging Face files that describe the model; None where it has none."""
    files = sorted((checkpoint / "context").rglob("tokenizer_config.json"))
    return files[0].parent if files else None


def checkpoint(key: str, path: str) -> Path:
    """The NeMo checkpoint that a path means: itself, or what a stage's folder has in `checkpoint`.

    Raises:
        UserError: no such folder.
        Unusable: it is neither.
    """
    folder = resolve(path)
    if not folder.is_dir():
        raise UserError(f"{key}: no folder {path}", "expected a NeMo checkpoint, or the folder of a stage that left one")
    for candidate in (folder, folder / "checkpoint"):
        if is_checkpoint(candidate):
            return candidate
    is_hf = (local_weights(path) or folder) / "config.json"
    raise Unusable(
        f"{key}: {path} is {'a Hugging Face folder' if is_hf.is_file() else 'neither a NeMo checkpoint nor a stage with one'}",
        "expected a NeMo checkpoint (context and weights inside), or the folder of a stage that left one as `checkpoint`",
    )
