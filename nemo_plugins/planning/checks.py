"""Is what was asked for possible? Every check raises UserError naming the key; those about the machine go by `Plan.need`."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path
from platform import machine
from typing import Any

from nemo_plugins.configs.schema import (
    ConvertConfig,
    Kind,
    LossConfig,
    ModelConfig,
    PlatformConfig,
    Precision,
    Recipe,
    TrainConfig,
)
from nemo_plugins.data import blend, documents
from nemo_plugins.models import hf_config
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import hf_folder, text_size, weights
from nemo_plugins.planning.memory import data_parallel
from nemo_plugins.planning.plan import Plan, gib
from nemo_plugins.platforms import arithmetic, gpus, locked
from nemo_plugins.runs import command_line, paths, workers
from nemo_plugins.runs.errors import Unusable, UserError

MODEL_FIELDS = (  # what a folder and `model` must agree on: sizes, and all else that decides what is computed
    "num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups", "head_dim", "vocab_size",
    "tied_embeddings", "rope_base", "norm_eps", "rope_scaling", "sliding_window", "family",
)  # fmt: skip
MULTIPLE = 64  # of FFN and hidden sizes, as ModelOpt's pruning has them
LARGE = 1_000_000_000  # parameters beyond which platform=auto plans for GPUs on a machine that has none
HOST_SHARE = 0.95  # of the free memory that a conversion may want


def has_gpu() -> bool:
    """Whether an NVIDIA GPU is here, seen without importing torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and bool(gpus.device_files())


def on_gpu(cfg: Recipe) -> bool:
    """Whether to plan for GPUs: they are asked for or here, or the model is one that nobody trains on a CPU."""
    if cfg.platform.kind is not Kind.auto:
        return cfg.platform.kind is Kind.gpu
    return has_gpu() or Architecture.from_config(cfg.model).parameters() > LARGE


def package(module: str, what: str) -> None:
    """Refuse where a package is not installed that some machines have none of.

    Args:
        module: the name that it is imported by.
        what: what it is for.
    Raises: UserError.
    """
    if find_spec(module) is None:
        setup = "expected what requirements.lock names: ./minitron setup"
        elsewhere = f"requirements.lock has none for {machine()}: run this stage on x86-64, on the same folder of runs"
        raise UserError(f"{module} is not installed: {what}", setup if locked.normal(module) in locked.wanted() else elsewhere)


def fused(cfg: Recipe) -> bool:
    """Whether training has what Transformer Engine brings: packed attention.

    Without a GPU it counts as absent even where it is installed (`platforms.has_transformer_engine`).
    """
    return on_gpu(cfg) and find_spec("transformer_engine") is not None


def sharded(cfg: Recipe) -> bool:
    """Whether the copies of the model share out the optimizer's state: `training.trainer.sharded_optimizer` of a new run."""
    asked = cfg.platform.shard_optimizer
    return on_gpu(cfg) if asked == "auto" else bool(asked)


def gradient_accumulation() -> str:
    """How NeMo's models sum gradients over micro-batches: by Apex's kernel where it is here, whether it is asked for or not.

    From nemo/collections/llm/gpt/model/base.py:49 and 304.
    """
    fused = find_spec("fused_weight_gradient_mlp_cuda") is not None
    return "fused by Apex" if fused else "not fused: Apex has no fused_weight_gradient_mlp_cuda here"


def bytes_per_value(cfg: Recipe) -> int:
    """Of the working weights in pruning and training."""
    return 2 if precision(cfg) is Precision.bf16 else 4


def precision(cfg: Recipe) -> Precision:
    """What `platform.precision` comes to where it is planned for: `auto` is bf16 on a GPU, and goes by this machine's CPU."""
    return arithmetic.precision(cfg.platform, on_gpu(cfg))


def student(cfg: Recipe) -> Architecture:
    """The student that `prune` asks for.

    Raises:
        UserError: a size that cannot be pruned to, naming its key.
    """
    asked, big = cfg.prune, Architecture.from_config(cfg.model)
    sizes = {
        "num_layers": big.num_layers,
        "ffn_hidden_size": big.ffn_hidden_size,
        "hidden_size": big.hidden_size,
        "num_attention_heads": big.num_attention_heads,
        "num_query_groups": big.num_query_groups,
    }
    named = [key for key in sizes if getattr(asked, key) is not None]
    for key in named:
        value = getattr(asked, key)
        if value <= 0:
            raise UserError(f"prune.{key}={value}: expected a positive number, at most the teacher's {sizes[key]}")
        if value > sizes[key]:
            raise UserError(f"prune.{key}={value} is more than the teacher's {sizes[key]}", "pruning only takes away")
        if key in ("ffn_hidden_size", "hidden_size") and value % MULTIPLE:
            near = f"{value // MULTIPLE * MULTIPLE or MULTIPLE} or {(value // MULTIPLE + 1) * MULTIPLE}"
            raise UserError(f"prune.{key}={value} is not a multiple of {MULTIPLE}", f"expected e.g. {near}")
    if asked.num_query_groups not in (None, big.num_query_groups):
        raise UserError(
            f"prune.num_query_groups={asked.num_query_groups}: query groups cannot be pruned",
            "ModelOpt 0.37 scores them in another order than it cuts them, so that the wrong groups would go",
            f"leave it out (the teacher's {big.num_query_groups} stay)",
        )
    if asked.num_attention_heads is not None and asked.num_attention_heads % big.num_query_groups:
        raise UserError(
            f"prune.num_attention_heads={asked.num_attention_heads} do not share out to {big.num_query_groups} query groups",
            f"expected a multiple of {big.num_query_groups}",
        )
    if asked.drop_layers is not None:
        return big.with_sizes(num_layers=big.num_layers - len(_dropped(asked.drop_layers, big.num_layers, named)))
    small = big.with_sizes(asked)
    if small == big:
        raise UserError(
            "prune: the student would be the teacher",
            "name at least one smaller size: prune.num_layers, prune.ffn_hidden_size, prune.hidden_size or prune.drop_layers",
        )
    return small


def _dropped(layers: list[int], have: int, named: list[str]) -> list[int]:
    if named:
        raise UserError(
            f"prune.drop_layers and prune.{named[0]} are both given",
            "expected either; drop the layers first, then prune the result",
        )
    wrong = [layer for layer in layers if not 1 <= layer <= have]
    if wrong:
        raise UserError(
            f"prune.drop_layers={layers}: {wrong[0]} is no layer of the teacher", f"expected numbers from 1 to {have}"
        )
    if len(set(layers)) != len(layers):
        raise UserError(f"prune.drop_layers={layers} names a layer twice", "expected each at most once")
    if not layers or len(layers) == have:
        raise UserError(
            f"prune.drop_layers={layers} would drop {'all layers' if layers else 'nothing'}",
            f"expected 1 to {have - 1} layers",
        )
    return layers


def platform(plan: Plan, cfg: PlatformConfig, models: dict[str, Architecture]) -> None:
    """Parallelism against the models and the job that this process is in."""
    for key in command_line.PROCESSES:
        if getattr(cfg, key) < 1:
            raise UserError(f"platform.{key}={getattr(cfg, key)}: expected at least 1")
    if not cfg.process_group_minutes > 0:
        raise UserError(f"platform.process_group_minutes={cfg.process_group_minutes:g}: expected more than 0")
    if cfg.shard_optimizer not in ("auto", True, False):
        raise UserError(f"platform.shard_optimizer={cfg.shard_optimizer}: expected auto, true or false")
    parts = cfg.tensor_parallel * cfg.pipeline_parallel * cfg.context_parallel
    have = cfg.devices * cfg.nodes
    if have % parts:
        raise UserError(
            f"platform: tensor {cfg.tensor_parallel} x pipeline {cfg.pipeline_parallel} x context {cfg.context_parallel} "
            f"= {parts} does not divide devices {cfg.devices} x nodes {cfg.nodes} = {have}",
            "change platform.devices, platform.nodes or the parallel sizes",
        )
    for whose, model in models.items():
        for key in ("num_attention_heads", "num_query_groups", "ffn_hidden_size", "vocab_size"):
            if getattr(model, key) % cfg.tensor_parallel:
                raise UserError(
                    f"platform.tensor_parallel={cfg.tensor_parallel} does not divide the {whose}'s {key} {getattr(model, key)}"
                )
        if model.num_layers % cfg.pipeline_parallel:
            raise UserError(
                f"platform.pipeline_parallel={cfg.pipeline_parallel} does not divide the {whose}'s {model.num_layers} layers"
            )
    plan.need("device", lambda: _job(cfg))


def _job(cfg: PlatformConfig) -> None:
    if cfg.kind is Kind.gpu and not has_gpu():
        raise UserError(
            "platform=gpu: no NVIDIA GPU on this machine", "expected /dev/nvidia<number>; platform=cpu runs without one"
        )
    have, given = cfg.devices * cfg.nodes, workers.world()
    if given is not None and given != have:
        raise UserError(
            f"the job has {given} processes, platform.devices={cfg.devices} x platform.nodes={cfg.nodes} = {have}",
            "expected one process for each device: change platform.devices and platform.nodes, or the job's size",
        )
    if given is None and cfg.nodes > 1:
        raise UserError(
            f"platform.nodes={cfg.nodes}, but neither Slurm nor torchrun started this process",
            "launch it with srun or torchrun",
        )


def single_process(cfg: PlatformConfig, what: str) -> None:
    """For stages that work in one process."""
    wrong = [key for key in command_line.PROCESSES if getattr(cfg, key) != 1]
    if wrong:
        given = " ".join(f"platform.{key}={getattr(cfg, key)}" for key in wrong)
        raise UserError(f"{given}: {what} runs in one process", f"expected {' '.join(f'platform.{key}=1' for key in wrong)}")


def training(plan: Plan, train: TrainConfig, key: str, cfg: Recipe) -> None:
    """The section of a stage that trains on text, against the platform and the model."""
    schedule(train, key, cfg)
    engine = find_spec("transformer_engine") and cfg.platform.kind is not Kind.cpu
    if cfg.data.document_boundaries and engine:  # its causal attention ignores a mask
        raise UserError(
            "data.document_boundaries=true: Transformer Engine is here, and its causal attention would see all documents",
            "expected data.document_boundaries=false, platform=cpu, or an environment without Transformer Engine",
        )
    data(plan, train.data, f"{key}.data", "data.train")
    data(plan, cfg.data.heldout, "data.heldout", "data.heldout")
    heldout(plan, cfg, train.seq_length, train.global_batch_size)
    for name, path in cfg.data.heldout_more.items():
        data(plan, [path], f"data.heldout_more.{name}", "data.heldout")
        if not name.isidentifier() or name == "heldout":
            raise UserError(f"data.heldout_more.{name}: expected a plain name like en, other than heldout")
    blend.check(cfg.data, train.data, f"{key}.data")
    trained = train.max_steps * train.global_batch_size * train.seq_length
    plan.warnings += text_size.readings(cfg, train.data, trained)
    if len(cfg.data.heldout) > 1:
        raise UserError(
            "data.heldout names several sources", "expected one, so that its loss is one number; data.heldout_more has others"
        )


def schedule(train: TrainConfig, key: str, cfg: Recipe) -> None:
    """Sizes, steps and learning rate of a training section against the platform and the model."""
    for name in ("max_steps", "seq_length", "micro_batch_size", "global_batch_size", "checkpoint_every", "keep_checkpoints",
                 "validate_every", "log_every"):  # fmt: skip
        if getattr(train, name) < 1:
            raise UserError(f"{key}.{name}={getattr(train, name)}: expected at least 1")
    for name in ("checkpoint_minutes", "spike"):
        least = 1 if name == "spike" else 0
        if getattr(train, name) is not None and not getattr(train, name) > least:
            raise UserError(f"{key}.{name}={getattr(train, name):g}: expected more than {least}, or null for none")
    if train.stop_minutes < 0:
        raise UserError(f"{key}.stop_minutes={train.stop_minutes:g}: expected 0 or more")
    copies = data_parallel(cfg.platform)
    unit = train.micro_batch_size * copies
    if train.global_batch_size % unit:
        below = train.global_batch_size // unit * unit
        raise UserError(
            f"{key}.global_batch_size={train.global_batch_size} is not a multiple of {unit} "
            f"(micro batch {train.micro_batch_size} x {copies} data-parallel copies)",
            f"expected e.g. {f'{below} or ' if below else ''}{below + unit}, or fewer copies by platform.tensor_parallel",
        )
    fits_context(f"{key}.seq_length", train.seq_length, cfg.model)
    slices = max(cfg.platform.tensor_parallel, 2 * cfg.platform.context_parallel if cfg.platform.context_parallel > 1 else 1)
    if train.seq_length % slices:
        raise UserError(
            f"{key}.seq_length={train.seq_length} cannot be cut into {slices} parts", f"expected a multiple of {slices}"
        )
    if not 0 <= train.warmup_steps < train.max_steps:
        raise UserError(
            f"{key}.warmup_steps={train.warmup_steps}: expected at least 0 and less than {key}.max_steps={train.max_steps}"
        )
    between = min(train.validate_every, train.max_steps)
    if train.max_steps % between:
        near = min((n for n in range(1, train.max_steps + 1) if train.max_steps % n == 0), key=lambda n: abs(n - between))
        raise UserError(
            f"{key}.max_steps={train.max_steps} is not a multiple of {key}.validate_every={between}: "
            "the last weights would go unmeasured",
            f"expected e.g. {key}.validate_every={near}",
        )
    if not 0 <= train.min_lr <= train.lr or train.lr <= 0:
        raise UserError(f"{key}.lr={train.lr:g}, {key}.min_lr={train.min_lr:g}: expected 0 <= min_lr <= lr and lr above 0")


def fits_context(key: str, seq_length: int, model: ModelConfig) -> None:
    """A sequence fits the model's context, and its sliding window where it has one: attention runs without the window."""
    if seq_length > model.context_length:
        raise UserError(f"{key}={seq_length} is longer than the model's context, {model.context_length}")
    if model.sliding_window and seq_length > model.sliding_window:
        raise UserError(f"{key}={seq_length} is longer than the model's sliding window, {model.sliding_window}")


def distillation_loss(loss: LossConfig, vocabulary: int) -> None:
    """Numbers that the distillation loss can take."""
    if not 0 < loss.temperature < float("inf"):
        raise UserError(f"distill.loss.temperature={loss.temperature:g}: expected a number above 0")
    if loss.top_k is not None and not 1 <= loss.top_k <= vocabulary:
        raise UserError(
            f"distill.loss.top_k={loss.top_k}: expected 1 to the vocabulary's {vocabulary:,}, or null for all of it"
        )
    if not 0 < loss.alpha <= 1:
        raise UserError(
            f"distill.loss.alpha={loss.alpha:g}: expected more than 0 and at most 1",
            "it is the share of the distillation; at 0 the teacher would run for nothing (recipes/pretrain.py trains without)",
        )
    if not 0 < loss.skew < 1:
        raise UserError(f"distill.loss.skew={loss.skew:g}: expected a number between 0 and 1")


def data(plan: Plan, sources: list[str], key: str, shared: str) -> None:
    """Sources are named and here."""
    if not sources:
        give = key if key == shared else f"{shared} (for every stage) or {key}"
        plan.need(
            "data",
            lambda: _raise(
                f"{key} names no text",
                f"give {give}=[<file or folder>]: {', '.join(documents.SUFFIXES)}, or a Megatron .bin/.idx prefix",
            ),
        )
    for source in sources:
        plan.need("data", lambda source=source: _source(source, key))


def heldout(plan: Plan, cfg: Recipe, seq_length: int, global_batch_size: int, more: bool = True) -> None:
    """Each held-out text fills a batch, as far as a plan can count it; `more`: those of `data.heldout_more`, too."""
    named = [("data.heldout", source) for source in cfg.data.heldout]
    others = cfg.data.heldout_more.items() if more else ()
    for key, source in [*named, *((f"data.heldout_more.{name}", source) for name, source in others)]:
        plan.need("data", lambda key=key, source=source: text_size.too_short(cfg, key, source, seq_length, global_batch_size))


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
    if not path:
        raise UserError(f"{key} is not given", f"expected a Hugging Face folder or a hub id: {key}=<path>")
    folder = paths.local_weights(path)
    if folder is None:
        raise UserError(paths.weights_missing(key, path))
    weights.check(folder, key)
    return folder


def source(plan: Plan, cfg: Recipe) -> Path | None:
    """The Hugging Face folder that a conversion reads, of the model that the configuration says; None: it is not here.

    Raises:
        Unusable: the folder is here, and is no Hugging Face folder or that of another model.
    """
    given = cfg.convert.source
    from_run = given and paths.resolve(given).resolve().is_relative_to(paths.run_root(cfg).resolve())
    return plan.need("earlier" if from_run else "weights", lambda: model_source(cfg))


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
    _same_model(hf_folder.describe(folder, key), cfg.model, key, path)
    hf_folder.read(folder, key, pad_vocabulary=True)
    return folder


def _same_model(config: dict[str, Any], model: ModelConfig, key: str, path: str) -> None:
    there = vars(Architecture.from_hf(config)) | {
        "family": config["model_type"],
        "rope_scaling": hf_config.rope_scaling(config),
        "sliding_window": hf_config.sliding_window(config),
    }
    window = model.sliding_window
    here = vars(Architecture.from_config(model)) | {
        "family": model.family.value,
        "rope_scaling": dict(model.rope_scaling) if model.rope_scaling else None,
        "sliding_window": window if window and window < there["context_length"] else None,
    }
    differ = [name for name in MODEL_FIELDS if there[name] != here[name]]
    if differ:
        meant = " ".join(shlex.quote(f"model.{name}={_override(there[name])}") for name in differ)
        if "rope_scaling" in differ:  # Hydra cannot give a dictionary to a key that is null
            meant = f"+model=from_hf {shlex.quote(f'model.path={path}')}"
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
    return model_source(dataclasses.replace(cfg, convert=ConvertConfig()))


def room(plan: Plan, cfg: Recipe, folder: Path, need: float) -> None:
    """Free space for what a stage writes, less what an earlier attempt left of it; noted for the plan of a chain."""
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if not cfg.force else 0
    plan.writes = max(0, need - there)
    plan.need("disk", lambda: disk(folder, plan.writes))


def disk(folder: Path, need: float) -> None:
    """Free space where a run folder will be."""
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < need:
        raise UserError(
            f"run.root: {gib(free)} free in {there}, this writes about {gib(need)}",
            "make room, or give another run.root",
        )


def free_memory() -> int | None:
    """Bytes that this machine can give now (Linux's MemAvailable); None: not known."""
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def host_memory(need: float, what: str) -> None:
    """Memory that this machine can give now (Linux's MemAvailable)."""
    free = free_memory()
    if free is not None and need > free * HOST_SHARE:
        raise UserError(f"{what} needs about {gib(need)} of memory, {gib(free)} are free", "run it on a machine with more")


def _raise(*lines: str) -> None:
    raise UserError(*lines)
