"""Is what was asked for possible? Every check raises UserError naming the key; those about the machine go by `Plan.need`."""

from __future__ import annotations

import os
import shutil
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from platform import machine

from nemo_plugins.configs.schema import (
    Divergence,
    Kind,
    LossConfig,
    ModelConfig,
    PlatformConfig,
    Precision,
    Recipe,
    SizesConfig,
    TrainConfig,
)
from nemo_plugins.data import blend
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import budget, inputs, text_size
from nemo_plugins.planning.memory import data_parallel
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, gib
from nemo_plugins.platforms import arithmetic, gpus, locked
from nemo_plugins.runs import command_line, paths, workers
from nemo_plugins.runs.errors import UserError

LARGE = 1_000_000_000  # parameters beyond which platform=auto plans for GPUs on a machine that has none
IMAGES = ("apptainer", "pyxis")  # of MINITRON_RUNTIME: what runs an image, which has Transformer Engine
NO_TRANSFORMER_ENGINE = "platform.transformer_engine=true: Transformer Engine cannot be used here"
HOW_TO_GO_ON = "expected an image that has it (docs/containers.md), or platform.transformer_engine=auto: torch's own layers"
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
        extras = locked.left_out(locked.installed()).get(locked.normal(module), "")
        setup = f"expected what requirements.lock names: ./minitron setup {extras}".rstrip()
        elsewhere = f"requirements.lock has none for {machine()}: run this stage on x86-64, on the same folder of runs"
        raise UserError(f"{module} is not installed: {what}", setup if locked.normal(module) in locked.wanted() else elsewhere)


def elsewhere(cfg: Recipe) -> bool:
    """Whether it is planned for GPUs on a machine that has none, which then says nothing of the one that runs it."""
    return on_gpu(cfg) and not has_gpu()


def fused(cfg: Recipe) -> bool:
    """Whether training has what Transformer Engine brings: packed attention.

    As `platform.transformer_engine` says of the platform that is planned for. Without a GPU it counts as absent even where it
    is installed (`platforms.has_transformer_engine`).
    """
    asked = cfg.platform.transformer_engine
    if not on_gpu(cfg) or asked is False:
        return False
    in_image = not has_gpu() and os.environ.get("MINITRON_RUNTIME") in IMAGES
    return asked is True or in_image or find_spec("transformer_engine") is not None


def engine(cfg: Recipe) -> str:
    """Whether it is planned with Transformer Engine, and why."""
    asked = cfg.platform.transformer_engine
    said = "yes" if fused(cfg) else "no, torch's own layers"
    if asked != "auto":
        return f"{said} (platform.transformer_engine={str(asked).lower()})"
    runtime = os.environ.get("MINITRON_RUNTIME")
    why = "installed here" if find_spec("transformer_engine") else "not installed here"
    return f"{said} (platform.transformer_engine=auto: {f'MINITRON_RUNTIME={runtime}' if runtime in IMAGES else why})"


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
    named = [field.name for field in fields(SizesConfig) if getattr(asked, field.name) is not None]
    for key in named:
        budget.check_size(f"prune.{key}={getattr(asked, key)}", key, getattr(asked, key), big)
    if asked.num_query_groups not in (None, big.num_query_groups):
        raise UserError(
            f"prune.num_query_groups={asked.num_query_groups}: query groups cannot be pruned",
            "ModelOpt 0.37 scores them in another order than it cuts them, so that the wrong groups would go",
            f"leave it out (the teacher's {big.num_query_groups} stay)",
        )
    if asked.drop_layers is not None:
        return big.with_sizes(num_layers=big.num_layers - len(_dropped(asked.drop_layers, big.num_layers, named)))
    small = big.with_sizes(asked)
    if small == big and not cfg.student.path:  # a checkpoint that is named may be the teacher, to be fine-tuned itself
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
    at_least(1, cfg, "platform", *command_line.PROCESSES)
    if cfg.transformer_engine not in ("auto", True, False):
        raise UserError(f"platform.transformer_engine={cfg.transformer_engine}: expected auto, true or false")
    if cfg.transformer_engine is True and cfg.kind is Kind.cpu:
        raise UserError(
            "platform.transformer_engine=true: Transformer Engine wants a GPU, and platform=cpu hides them",
            "expected platform.transformer_engine=auto or false",
        )
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
    plan.need("device", _job, cfg)


def _job(cfg: PlatformConfig) -> None:
    if cfg.kind is Kind.gpu and not has_gpu():
        raise UserError(
            "platform=gpu: no NVIDIA GPU on this machine", "expected /dev/nvidia<number>; platform=cpu runs without one"
        )
    if cfg.transformer_engine is True and has_gpu() and find_spec("transformer_engine") is None:
        raise UserError(NO_TRANSFORMER_ENGINE, HOW_TO_GO_ON)
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


def document_boundaries(cfg: Recipe, key: str, micro_batch_size: int) -> None:
    """Where Transformer Engine keeps documents apart, its packed attention knows neither a batch nor parts of a sequence."""
    platform = cfg.platform
    engine = find_spec("transformer_engine") and platform.kind is not Kind.cpu and platform.transformer_engine is not False
    given = [
        f"{name}={value}"
        for name, value in ((key, micro_batch_size), ("platform.context_parallel", platform.context_parallel))
        if value > 1
    ]
    if cfg.data.document_boundaries and engine and given:
        raise UserError(
            f"data.document_boundaries=true: {' '.join(given)}, and Transformer Engine packs one sequence at a time",
            f"expected {key}=1 and platform.context_parallel=1, platform=cpu, or platform.transformer_engine=false",
        )


def training(plan: Plan, train: TrainConfig, key: str, cfg: Recipe, of_text: float = 1.0) -> None:
    """The section of a stage that trains on text, `of_text` of its windows, against the platform and the model."""
    schedule(train, key, cfg)
    document_boundaries(cfg, f"{key}.micro_batch_size", train.micro_batch_size)
    inputs.data(plan, cfg, train.data, f"{key}.data", "data.train")
    inputs.data(plan, cfg, cfg.data.heldout, "data.heldout", "data.heldout")
    inputs.heldout(plan, cfg, train.seq_length, train.global_batch_size)
    inputs.apart(plan, train.data, cfg.data.heldout, "data.heldout")
    for name, path in cfg.data.heldout_more.items():
        inputs.data(plan, cfg, [path], f"data.heldout_more.{name}", "data.heldout")
        if not name.isidentifier() or name == "heldout":
            raise UserError(f"data.heldout_more.{name}: expected a plain name like en, other than heldout")
    blend.check(cfg.data, train.data, f"{key}.data")
    trained = round(of_text * train.max_steps * train.global_batch_size * train.seq_length)
    plan.warnings += text_size.readings(cfg, train.data, trained)
    if len(cfg.data.heldout) > 1:
        raise UserError(
            "data.heldout names several sources", "expected one, so that its loss is one number; data.heldout_more has others"
        )


def schedule(train: TrainConfig, key: str, cfg: Recipe) -> None:
    """Sizes, steps and learning rate of a training section against the platform and the model."""
    counts = ("max_steps", "seq_length", "micro_batch_size", "global_batch_size", "checkpoint_every", "keep_checkpoints",
              "validate_every", "log_every")  # fmt: skip
    at_least(1, train, key, *counts)
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


def distillation_loss(loss: LossConfig, vocabulary: int, key: str = "distill") -> None:
    """Numbers that the distillation loss of a section can take."""
    if not 0 < loss.temperature < float("inf"):
        raise UserError(f"{key}.loss.temperature={loss.temperature:g}: expected a number above 0")
    if loss.top_k is not None and not 1 <= loss.top_k <= vocabulary:
        raise UserError(f"{key}.loss.top_k={loss.top_k}: expected 1 to the vocabulary's {vocabulary:,}, or null for all of it")
    if loss.draws is not None:
        _drawn(loss)
    if not 0 < loss.alpha <= 1:
        raise UserError(
            f"{key}.loss.alpha={loss.alpha:g}: expected more than 0 and at most 1",
            "it is the share of the distillation; at 0 the teacher would run for nothing (recipes/pretrain.py trains without)",
        )
    if not 0 < loss.skew < 1:
        raise UserError(f"{key}.loss.skew={loss.skew:g}: expected a number between 0 and 1")


def _drawn(loss: LossConfig) -> None:
    """A loss against tokens that are drawn from the teacher's distribution."""
    asked = f"distill.loss.draws={loss.draws}"
    if loss.draws is not None and loss.draws < 1:
        raise UserError(f"{asked}: expected 1 or more, e.g. 32, or null")
    if loss.top_k is not None:
        raise UserError(f"{asked}: distill.loss.top_k={loss.top_k} is given, too", "expected one of them, the other null")
    if loss.kind is not Divergence.forward_kl:
        raise UserError(
            f"{asked}: distill.loss.kind={loss.kind} would have a biased gradient",
            "expected forward_kl, which alone is linear in the teacher's probabilities; for another kind record",
            "distill.loss.top_k=64 in the place of distill.loss.draws, or let the teacher run: teacher.mode=live",
        )


def room(plan: Plan, cfg: Recipe, folder: Path, need: float) -> None:
    """Free space for what a stage writes, less what an earlier attempt left of it; noted for the plan of a chain."""
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if not cfg.force else 0
    plan.writes = max(0, need - there)
    plan.need("disk", disk, folder, plan.writes)


def disk(folder: Path, need: float) -> None:
    """Free space where a run folder will be."""
    free, there = _free(folder)
    if free < need:
        raise UserError(
            f"run.root: {gib(free)} free in {there}, this writes about {gib(need)}",
            "make room, or give another run.root",
        )


def free_disk(cfg: Recipe) -> int:
    """Bytes that are free where the run's folder will be."""
    return _free(paths.run_root(cfg))[0]


def _free(folder: Path) -> tuple[int, Path]:
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free, there


def free_memory() -> int | None:
    """Bytes that this machine can give now (Linux's MemAvailable); None: not known."""
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def host_room(cfg: Recipe) -> float | None:
    """Bytes of memory of the machine that is planned for; None: not known."""
    return cfg.platform.node_memory_gib * 2**30 if elsewhere(cfg) else free_memory()


def host_memory(need: float, what: str) -> None:
    """Memory that this machine can give now (Linux's MemAvailable)."""
    free = free_memory()
    if free is not None and need > free * HOST_SHARE:
        raise UserError(f"{what} needs about {gib(need)} of memory, {gib(free)} are free", "run it on a machine with more")
