"""What the plans of all trainings share: the schedule, the memory, the files that are written."""

from __future__ import annotations

from nemo_plugins.configs.schema import Recipe, TrainConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, memory, tables
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs import paths


def add(
    plan: Plan, cfg: Recipe, stage: str, train: TrainConfig, model: Architecture, teacher: Architecture | None = None
) -> None:
    """Check the disk and add the tables of a training to a plan.

    Args:
        stage: the recipe's name, its folder where `run.stage` does not name another.
        teacher: of a distillation.
    """
    width = checks.bytes_per_value(cfg)
    folder = paths.run_root(cfg) / (cfg.run.stage or stage)
    written = files(train, model, width)
    plan.need("disk", lambda: checks.disk(folder, sum(written.values())))
    plan.tables += [
        tables.sizes(teacher, model) if teacher else tables.sizes(model, None, ("model", "")),
        schedule(train, model, teacher),
        tables.memory(plan, memory.training(model, train, cfg.platform, width, teacher), cfg.platform, checks.on_gpu(cfg)),
        tables.writes(folder, written),
    ]


def tokens(train: TrainConfig) -> int:
    """Tokens of the whole training."""
    return train.max_steps * train.global_batch_size * train.seq_length


def files(train: TrainConfig, model: Architecture, bytes_per_value: int) -> dict[str, int]:
    """Bytes of the files that a training writes: one checkpoint more than are kept, while the newest is written."""
    return {
        f"steps ({train.keep_checkpoints} kept)": (train.keep_checkpoints + 1)
        * memory.checkpoint(model, bytes_per_value, optimizer=True),
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
