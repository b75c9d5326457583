"""Are the texts and models here that a stage reads, and are they what the configuration says? By `Plan.need`, what is not."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

from nemo_plugins.configs.schema import ConvertConfig, ModelConfig, Recipe
from nemo_plugins.data import documents
from nemo_plugins.models import hf_config
from nemo_plugins.models.architecture import SIZES, Architecture
from nemo_plugins.planning import hf_folder, text_size, weights
from nemo_plugins.planning.plan import Plan
from nemo_plugins.runs import paths, workers
from nemo_plugins.runs.errors import Unusable, UserError

MODEL_FIELDS = (  # what a folder and `model` must agree on: sizes, and all else that decides what is computed
    *SIZES, "tied_embeddings", "rope_base", "norm_eps", "rope_scaling", "sliding_window", "family",
)  # fmt: skip


def data(plan: Plan, cfg: Recipe, sources: list[str], key: str, shared: str) -> None:
    """Sources are named and here; messages say `shared`, the key of every stage, where `key` takes its value from there."""
    if sources == getattr(cfg.data, shared.removeprefix("data.")):
        key = shared
    if not sources:
        give = key if key == shared else f"{shared} (for every stage) or {key}"
        plan.lack(
            "data",
            f"{key} names no text",
            f"give {give}=[<file or folder>]: {', '.join(documents.SUFFIXES)}, or a Megatron .bin/.idx prefix",
            give=shared,
        )
    for source in sources:
        plan.need("data", _source, source, key)


def heldout(plan: Plan, cfg: Recipe, seq_length: int, global_batch_size: int, more: bool = True) -> None:
    """Each held-out text fills a batch, as far as a plan can count it; `more`: those of `data.heldout_more`, too."""
    named = [("data.heldout", source) for source in cfg.data.heldout]
    others = cfg.data.heldout_more.items() if more else ()
    for key, source in [*named, *((f"data.heldout_more.{name}", source) for name, source in others)]:
        plan.need("data", text_size.too_short, cfg, key, source, seq_length, global_batch_size)


def apart(plan: Plan, trained: list[str], heldout: list[str], key: str) -> None:
    """A warning for each held-out source with a file that is trained on, too; `key`: of the held-out ones."""
    learnt = {file for source in trained for file in _files(source)}
    plan.warnings += [
        f"{key}: {source} is trained on, too: its figures say nothing of text that is new to the model"
        for source in heldout
        if learnt & _files(source)
    ]


def _files(source: str) -> set[Path]:
    """The files of a source, links followed; a pair of `.bin` and `.idx` by their prefix, though it need not be here."""
    path = paths.resolve(source)
    files = (file for file in path.rglob("*") if file.name.endswith(documents.SUFFIXES)) if path.is_dir() else [path]
    return {file.resolve() for file in files}


def _source(source: str, key: str) -> None:
    path = paths.resolve(source)
    if path.is_dir():
        documents.shards(path)
        return
    if path.is_file():
        if not path.name.endswith(documents.SUFFIXES):
            raise UserError(
                f"{key}: {source} is neither text nor tokens",
                f"expected {', '.join(documents.SUFFIXES)} or a prefix of .bin and .idx",
            )
        if path.stat().st_size == 0:
            raise UserError(f"{key}: {source} is empty")
        return
    pair = [path.with_name(path.name + suffix) for suffix in (".bin", ".idx")]
    here = [file.is_file() for file in pair]
    if not all(here):
        what = f"{pair[here.index(False)]} is missing" if any(here) else f"no file {source}, nor {source}.bin and {source}.idx"
        raise UserError(f"{key}: {what}", "relative paths start at the current directory, assets/… at the repository")
    if pair[0].stat().st_size == 0:
        raise UserError(f"{key}: {source} holds no token", "expected at least one document")


def model_weights(path: str | None, key: str) -> Path:
    """The whole Hugging Face folder of a model. Raises UserError where it is not here or not whole."""
    folder = paths.weights_of(path, key)
    weights.check(folder, key)
    return folder


def source(plan: Plan, cfg: Recipe) -> Path | None:
    """The Hugging Face folder that a conversion reads, of the model that the configuration says; None: it is not here.

    Raises:
        Unusable: the folder is here, and is no Hugging Face folder or that of another model.
    """
    given = cfg.convert.source
    from_run = given and paths.resolve(given).resolve().is_relative_to(paths.run_root(cfg).resolve())
    return plan.need("earlier" if from_run else "weights", model_source, cfg)


def model_source(cfg: Recipe) -> Path:
    """`convert.source`, else `model.path`: a whole Hugging Face folder of the model that the configuration says.

    Raises:
        UserError: it is not here or not whole.
        Unusable: it is no Hugging Face folder, its `config.json` says what is not computed here, or it is of another model.
    """
    given = cfg.convert.source
    key, path = ("convert.source", given) if given else ("model.path", cfg.model.path)
    if path and (folder := paths.local_weights(path)) and not (folder / "config.json").is_file():
        what = "a NeMo checkpoint" if paths.is_checkpoint(folder) else "no Hugging Face folder"
        raise Unusable(
            f"{key}: {path} is {what}: it has no config.json",
            "expected a Hugging Face folder, or the folder of a stage that left one as `hf`",
        )
    folder = model_weights(path, key)
    _same_model(hf_folder.describe(folder, key), cfg.model, key, str(path))
    hf_folder.read(folder, key, pad_vocabulary=True)
    return folder


def _same_model(config: dict[str, Any], model: ModelConfig, key: str, path: str) -> None:
    there = vars(Architecture.from_hf(config)) | {
        "rope_scaling": hf_config.rope_scaling(config),
        "sliding_window": hf_config.sliding_window(config),
    }
    window = model.sliding_window
    here = vars(Architecture.from_config(model)) | {
        "rope_scaling": model.rope_scaling,
        "sliding_window": window if window and window < there["context_length"] else None,
    }
    differ = [name for name in MODEL_FIELDS if there[name] != here[name]]
    if differ:
        meant = " ".join(shlex.quote(f"model.{name}={_override(there[name])}") for name in differ)
        raise Unusable(
            f"{key}: the model of {path} is another than model={model.name} describes",
            *(f"  {name}: {_shown(there[name])} there, {_shown(here[name])} in model.{name}" for name in differ),
            f"expected the same; if it is meant: {meant}",
        )


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _override(value)


def _override(value: object) -> str:
    """A value as Hydra reads it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{one}" for key, one in value.items()) + "}"
    return json.dumps(value).strip('"')


def teacher(cfg: Recipe) -> Path:
    """The teacher's checkpoint, or the Hugging Face folder that a plain call imports first (`runs.chain.import_teacher`)."""
    if cfg.teacher.path or paths.find(cfg, "convert-import") or workers.world():
        return paths.teacher(cfg)
    if cfg.convert.random:  # the import makes one
        return paths.run_root(cfg)
    return model_source(dataclasses.replace(cfg, convert=ConvertConfig()))
