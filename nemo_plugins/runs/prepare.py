"""From the configuration that Hydra composed to the one that a stage runs with: nothing left to derive."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nemo_plugins.configs.schema import Family, Kind, Recipe, SizesConfig
from nemo_plugins.configs.store import CONF, options, register
from nemo_plugins.models import hf_config
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.runs import command_line, hydra_errors, paths, workers
from nemo_plugins.runs.errors import UserError

SIZES = tuple(field.name for field in dataclasses.fields(SizesConfig))
RUN_NAME = re.compile(r"[\w.,=+-]+(/[\w.,=+-]+)*")


def compose(overrides: list[str]) -> Recipe:
    """The configuration of a command line, in this process: what the stages of a chain are planned with.

    Raises:
        UserError: as `prepare`.
        hydra.errors.HydraException: an override that fits nothing.
    """
    return prepare(composed(overrides), overrides)


def composed(overrides: list[str]) -> DictConfig:
    """What Hydra's own `compose` gives, with what takes its time, the groups, composed once for all stages of a chain.

    Raises:
        hydra.errors.HydraException: an override that fits nothing, several values of a key.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    chosen, values = _parsed(overrides)
    config = _of_groups(chosen).copy()
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    return config


def expect(overrides: list[str]) -> None:
    """Compose the groups of a command line that `composed` is asked for later, in this process or a fork of it."""
    _of_groups(_parsed(overrides)[0])


def _parsed(overrides: list[str]) -> tuple[tuple[str, ...], list]:
    """The group choices, and the other overrides as Hydra parses them."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode

    parsed = OverridesParser.create().parse_overrides(overrides)
    ConfigLoaderImpl.validate_sweep_overrides_legal(parsed, run_mode=RunMode.RUN, from_shell=True)
    chosen: list = []
    values: list = []
    for override in parsed:
        name = override.get_key_element().lstrip("+~").partition("@")[0]
        (chosen if (CONF / name).is_dir() or name.startswith("hydra") else values).append(override)
    return tuple(override.input_line for override in chosen), values


@cache
def _of_groups(chosen: tuple[str, ...]) -> DictConfig:
    """What the recipes share, with the group choices."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    if GlobalHydra.instance().is_initialized():  # Hydra's own main is at work, as with `--run`
        return compose(config_name="recipe", overrides=list(chosen))
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(config_name="recipe", overrides=list(chosen))


def prepare(composed: DictConfig, typed: Sequence[str] = ()) -> Recipe:
    """Resolve `from_hf`, the interpolations, what goes by the data, the run's name and the student.

    The student is that of a budget, or the recommended one, or one a third smaller.

    Args:
        composed: is changed.
        typed: the overrides that it was composed of.

    Raises:
        UserError: no model, an experiment for another model, a folder that is not there, a RoPE that NeMo has not, a name that
            is no folder, a budget beside sizes or one that no student meets.
        omegaconf.errors.OmegaConfBaseException: a value is of a wrong type or refers to nothing.
    """
    from nemo_plugins.planning import by_data  # here, for the planning modules import this package's errors

    by_data.register()
    if left := by_data.keys(composed):
        for key, number in by_data.numbers(_prepared(composed.copy(), typed), left).items():
            if key in left:
                OmegaConf.update(composed, key, number)
    return _prepared(composed, typed)


def _prepared(composed: DictConfig, typed: Sequence[str]) -> Recipe:
    """`prepare`, with what goes by the data at its most."""
    from nemo_plugins.planning import budget

    if OmegaConf.is_missing(composed, "model"):
        models = ", ".join(options("model"))
        raise UserError("no model: expected +model=<name>", f"models: {models}", "e.g. +model=tiny_pl")
    _check_keys(composed, "")
    if OmegaConf.missing_keys(composed.model):
        _read_hf(composed.model, set(map(command_line.key_of, typed)))
    _check_experiment(composed)
    cfg: Recipe = OmegaConf.to_object(composed)
    cfg.run.typed = tuple(typed)
    _set_gpu(cfg)
    cfg.run.name = cfg.run.name or command_line.default_name(cfg.model.name, cfg.experiment.name)
    if cfg.convert.tokenizer:  # of another conversion the texts are no part
        vocabulary = cfg.convert.vocabulary
        vocabulary.text, vocabulary.heldout = vocabulary.text or cfg.data.train, vocabulary.heldout or cfg.data.heldout
    try:
        family = FAMILIES[cfg.model.family.value]
        scaling = {"model_type": family.model_type, **family.only, "rope_scaling": cfg.model.rope_scaling}
        cfg.model.rope_scaling = hf_config.rope_scaling(scaling)
    except ValueError as error:
        raise UserError(f"model.rope_scaling: {error}") from None
    for key in ("name", "stage"):
        value = getattr(cfg.run, key)
        if value is not None and (not RUN_NAME.fullmatch(value) or ".." in value.split("/")):
            raise UserError(
                f"run.{key}={value} cannot be a folder below run.root",
                "expected letters, digits and _ . , = + -, or a/b",
            )
    if budget.is_given(cfg.prune.budget):
        named = [key for key in (*SIZES, "drop_layers") if getattr(cfg.prune, key) is not None]
        if named:
            given = next(key for key in budget.LIMITS if getattr(cfg.prune.budget, key) is not None)
            raise UserError(
                f"prune.budget.{given} and prune.{named[0]} are both given",
                "expected either: a budget chooses the sizes",
                "bounds for its choice: prune.budget.frozen and prune.budget.grid",
            )
        teacher = Architecture.from_config(cfg.model)
        student = budget.choose(teacher, cfg.prune.budget)
        for key in SIZES:
            if getattr(student, key) != getattr(teacher, key):
                setattr(cfg.prune, key, getattr(student, key))
    elif not names_a_student(cfg):
        recommended = budget.recommended(cfg.model, cfg.platform.pipeline_parallel)
        for key in SIZES:
            setattr(cfg.prune, key, getattr(recommended, key))
    return cfg


def _set_gpu(cfg: Recipe) -> None:
    """Memory of a GPU, and how many a node has, where nobody says: those of the device that is planned for.

    An experiment's nodes have eight GPUs. Where the site's or the device's have fewer, as many GPUs are on more nodes; a job
    gives its own shape, which stays.
    """
    from nemo_plugins.planning import devices

    platform, given = cfg.platform, set(map(command_line.key_of, cfg.run.typed))
    gpu = devices.load(cfg.plan.gpu, "plan.gpu" if "plan.gpu" in given else "platform.gpu")
    if platform.gpu_memory_gib is None:
        platform.gpu_memory_gib = gpu.memory_gib
    if platform.kind is not Kind.gpu or workers.world() is not None or "platform.devices" in given:
        return
    most, every = devices.per_node(gpu), platform.devices * platform.nodes
    if most < platform.devices and every % most == 0:
        platform.devices = most
        if "platform.nodes" not in given:
            platform.nodes = every // most


def names_a_student(cfg: Recipe) -> bool:
    """Whether `prune` says what the student looks like."""
    return cfg.prune.drop_layers is not None or any(getattr(cfg.prune, key) is not None for key in SIZES)


def _check_keys(node: DictConfig, prefix: str) -> None:
    """`+key=` opens the typed nodes of a configuration: what it added is a misspelling all the same."""
    schema = OmegaConf.get_type(node)
    known = {field.name for field in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else None
    for key in node:
        if known is not None and key not in known:
            raise UserError(hydra_errors.no_such_key(f"{prefix}{key}"))
        if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key) and OmegaConf.is_dict(node[key]):
            _check_keys(node[key], f"{prefix}{key}.")


def _read_hf(model: DictConfig, typed: set[str]) -> None:
    """Fill a model that only has a path from its `config.json`, which nothing that is typed may contradict but its name."""
    if not model.path:
        raise UserError(
            "+model=from_hf needs model.path", "expected a local Hugging Face folder, e.g. model.path=models/my_teacher"
        )
    file = paths.weights_of(model.path, "model.path") / "config.json"
    try:
        config = json.loads(file.read_text())
        architecture = Architecture.from_hf(config)
    except FileNotFoundError:
        raise UserError(f"model.path: {file} is not there", "expected a Hugging Face folder") from None
    except ValueError as error:
        raise UserError(f"model.path: cannot use {file}: {error}") from None
    if OmegaConf.is_missing(model, "name"):
        model.name = re.sub(r"[^\w.-]", "_", Path(model.path.rstrip("/")).name)
    there = {key: value for key, value in architecture.as_dict().items() if key != "gated"} | {
        "family": Family(architecture.family),
        "rope_scaling": hf_config.rope_scaling(config),
        "sliding_window": hf_config.sliding_window(config),
        "init_std": config.get("initializer_range", 0.02),
    }
    for key, value in there.items():
        if f"model.{key}" in typed and model[key] != value:
            raise UserError(
                f"model.{key}={model[key]}: {file} has {value}",
                "expected it without: a teacher is what its folder says; a student's sizes are prune.num_layers and others",
            )
        model[key] = value
    recommended = model.recommended
    longest = architecture.context_length
    recommended.seq_length = min(recommended.seq_length, longest)
    for key in ("calibration_seq_length", "sft_seq_length", "dpo_seq_length", "grpo_seq_length"):
        recommended[key] = min(recommended[key], longest)


def _check_experiment(composed: DictConfig) -> None:
    models, name = list(composed.experiment.models), composed.model.name
    if models and name not in models:
        raise UserError(
            f"experiment={composed.experiment.name} is for {', '.join(models)}, not for {name}",
            f"use +model={models[0]}; for {name} leave the experiment out (its chain is experiment=own) and name sizes",
        )
