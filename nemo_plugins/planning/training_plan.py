"""What the plans of all trainings share: the schedule, the memory, the files that are written."""

from __future__ import annotations

import dataclasses

from nemo_plugins.configs.schema import PlatformConfig, Recipe, Recompute, TrainConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, memory, pace, tables
from nemo_plugins.planning.memory import Memory
from nemo_plugins.planning.plan import Plan, Table, gib
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError


def add(
    plan: Plan, cfg: Recipe, key: str, train: TrainConfig, model: Architecture, teacher: Architecture | None = None,
    stage: str = "",
) -> None:  # fmt: skip
    """Check the disk and add the tables of a training to a plan.

    Args:
        key: section of the training, e.g. `distill`.
        teacher: of a distillation.
        stage: its folder where it is not `key`; `run.stage` comes before both.
    """
    width = checks.bytes_per_value(cfg)
    folder = paths.run_root(cfg) / (cfg.run.stage or stage or key)
    written = files(train, model, width)
    checks.room(plan, cfg, folder, sum(written.values()))
    need = memory.training(model, train, cfg.platform, width, teacher, checks.sharded(cfg))
    if checks.on_gpu(cfg) and not checks.fused(cfg):  # of the machine that trains, which may not be this one
        plan.need("memory", lambda: _fits(cfg, key, train, model, teacher))
    if not checks.on_gpu(cfg):
        need = dataclasses.replace(need, process=memory.TRAINING_PROCESS)
        plan.seconds = pace.START + pace.seconds(cfg, flops_per_token(train, model, teacher) * tokens(train))
    trained = schedule(train, model, teacher)
    if checks.on_gpu(cfg):
        trained.rows.append(("gradient accumulation", checks.gradient_accumulation()))
    plan.tables += [
        tables.sizes(teacher, model) if teacher else tables.sizes(model, None, ("model", "")),
        trained,
        tables.memory(plan, need, cfg.platform, checks.on_gpu(cfg)),
        tables.writes(folder, written),
    ]
    if plan.seconds is not None:
        plan.tables.append(pace.table(plan.seconds, cfg))


def _fits(cfg: Recipe, key: str, train: TrainConfig, model: Architecture, teacher: Architecture | None) -> None:
    """A step fits a GPU without Transformer Engine."""

    def need(length: int, platform: PlatformConfig = cfg.platform, sharded: bool = checks.sharded(cfg)) -> Memory:
        shorter = dataclasses.replace(train, seq_length=length)
        return memory.training(model, shorter, platform, checks.bytes_per_value(cfg), teacher, sharded)

    whole, room = need(train.seq_length), cfg.platform.gpu_memory_gib * 2**30
    if whole.total <= room:
        return
    shared = need(train.seq_length, sharded=True)
    ways = ["platform.shard_optimizer=true"] if shared.total <= room else []
    recomputing = dataclasses.replace(cfg.platform, recompute=Recompute.full)
    ways += ["platform.recompute=full"] if need(train.seq_length, recomputing).total <= room else []
    fits = max((length for length in range(64, train.seq_length, 64) if need(length).total <= room), default=0)
    ways += [f"at most {key}.seq_length={fits}"] if fits else []
    raise UserError(
        f"{key}.seq_length={train.seq_length}: about {gib(whole.total)} on each GPU, {gib(room)} are there",
        f"expected {', '.join([*ways, 'a larger platform.tensor_parallel'])}",
    )


def tokens(train: TrainConfig) -> int:
    """Tokens of the whole training."""
    return train.max_steps * train.global_batch_size * train.seq_length


def files(train: TrainConfig, model: Architecture, bytes_per_value: int) -> dict[str, int]:
    """Bytes of the files that a training writes: one checkpoint more than are kept, while the newest is written."""
    kept = f"{train.keep_checkpoints} kept{' and the best' if train.keep_best else ''}"
    steps = train.keep_checkpoints + train.keep_best + 1
    return {
        f"steps ({kept})": steps * memory.checkpoint(model, bytes_per_value, optimizer=True),
        "checkpoint": memory.checkpoint(model, bytes_per_value, optimizer=False),
    }


def flops_per_token(train: TrainConfig, model: Architecture, teacher: Architecture | None = None) -> int:
    """Of a training step, averaged over its tokens: three forward passes of the model, one of the teacher."""
    return 3 * model.flops_per_token(train.seq_length) + (teacher.flops_per_token(train.seq_length) if teacher else 0)


def schedule(train: TrainConfig, model: Architecture, teacher: Architecture | None = None) -> Table:
    """Steps, tokens, learning rate and arithmetic of a training."""
    flops = flops_per_token(train, model, teacher) * tokens(train)
    rate = f"{train.lr:g}, constant" if train.lr == train.min_lr else f"{train.lr:g} to {train.min_lr:g}, cosine"
    return Table(
        "Training",
        [
            ("steps", f"{train.max_steps:,} ({train.warmup_steps:,} of warm-up)"),
            (
                "batch",
                f"{train.global_batch_size:,} sequences of {train.seq_length:,} tokens, {train.micro_batch_size} at a time",
            ),
            ("tokens", f"{tokens(train):,}"),
            ("learning rate", rate),
            ("arithmetic", f"{flops:.3g} FLOP"),
            ("checkpoint", f"every {train.checkpoint_every:,} steps, {train.keep_checkpoints} kept"),
            ("text", ", ".join(train.data) or "not named"),
        ],
    )
