"""What the plans of all trainings share: the schedule, the memory, the files that are written."""

from __future__ import annotations

import dataclasses

from nemo_plugins.configs.schema import Recipe, Recompute, TrainConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, devices, layout, memory, pace, tables
from nemo_plugins.planning.layout import Layout
from nemo_plugins.planning.plan import Cost, Plan, Table, gib, short
from nemo_plugins.planning.rollouts import Rollouts
from nemo_plugins.planning.work import flops_per_token, tokens
from nemo_plugins.runs import paths
from nemo_plugins.runs.stages import by_name


def add(
    plan: Plan, cfg: Recipe, key: str, train: TrainConfig, model: Architecture, teacher: Architecture | None = None,
    passes: int = 0, rollouts: Rollouts | None = None,
) -> None:  # fmt: skip
    """Check the disk and add the tables of a training, and its sizes for a chain, to a plan.

    Args:
        key: section of the training, e.g. `distill`.
        teacher: of a distillation.
        passes, rollouts: as of `Layout`.
    """
    width, on_gpu = checks.bytes_per_value(cfg), checks.on_gpu(cfg)
    folder = paths.run_root(cfg) / str(by_name()[key].folder_of(cfg))
    written = files(train, model, width)
    checks.room(plan, cfg, folder, sum(written.values()))
    need = memory.training(model, train, cfg.platform, width, teacher, checks.sharded(cfg), on_gpu)
    trained = schedule(train, model, teacher)
    plan.sizes = f"{train.max_steps:,} steps, {short(tokens(train))} tokens"
    plan.tables += [tables.sizes(teacher, model) if teacher else tables.sizes(model, None, ("model", "")), trained]
    if on_gpu:
        job = layout.of(cfg, train, model, teacher, passes, rollouts)
        note = ""
        if rollouts:
            note = (
                f"of a step's {job.step_seconds:,.0f} s {job.drawing:,.0f} draw completions, with "
                f"{gib(rollouts.cache(model, cfg.platform))} of keys and values on each GPU"
            )
        plan.cost = Cost(job.bytes, job.room, job.gpus, 24 * job.days, job.name, note=note)
        if cfg.platform.tensor_parallel > cfg.platform.devices:
            plan.warnings.append(
                f"platform.tensor_parallel={cfg.platform.tensor_parallel}: a node has {cfg.platform.devices} GPUs, and every "
                f"layer waits for the network; expected at most {cfg.platform.devices}"
            )
        if job.bytes > job.room:
            lines = _does_not_fit(cfg, key, job)
            if checks.fused(cfg):
                plan.warnings.append(": ".join(lines))
            else:  # of the machine that trains, which may not be this one
                plan.lack("fit", *lines)
        trained.rows += [
            ("Transformer Engine", checks.engine(cfg)),
            ("gradient accumulation", checks.gradient_accumulation()),
        ]
    else:
        need = dataclasses.replace(need, process=memory.TRAINING_PROCESS)
        plan.seconds = pace.START + pace.seconds(cfg, flops_per_token(train, model, teacher) * tokens(train))
        plan.cost = Cost(need.total, checks.free_memory(), hours=plan.seconds / 3600)
    plan.tables.append(tables.memory(need, cfg.platform, on_gpu))
    if on_gpu:
        if rollouts:
            drawing = rollouts.memory(model, cfg.platform, need)
            plan.tables.append(tables.memory(drawing, cfg.platform, on_gpu, "Memory of one GPU while completions are drawn"))
        plan.tables.append(hours(job, cfg))
    plan.tables.append(tables.writes(folder, written))
    if plan.seconds is not None:
        plan.tables.append(pace.table(plan.seconds, cfg))


def hours(job: Layout, cfg: Recipe) -> Table:
    """How long the layout takes, and the one to take on these GPUs."""
    rows = [
        ("GPUs", f"{job.platform.nodes} x {job.platform.devices} {job.gpu.name}, MFU {job.mfu:g} (plan.gpu, plan.mfu)"),
        ("layout", job.name or "one GPU"),
        ("a step", f"{job.step_seconds:,.3g} s"),
    ]
    if job.rollouts:
        rows.append(("of it drawing completions", f"{job.drawing:,.3g} s, each to its last token"))
    wall = 24 * job.days
    rows += [("hours", f"{wall:,.4g}"), ("GPU-hours", f"{wall * job.gpus:,.0f}"), ("recommended", recommended(job))]
    if (price := devices.usd_an_hour(cfg.plan)) is not None:
        rows.insert(-1, ("cost", f"{wall * job.gpus * price:,.0f} USD at {price:g} USD a GPU-hour (plan.usd_an_hour)"))
    return Table("Time and cost, estimated", rows, numbers=False)


def recommended(job: Layout) -> str:
    """Overrides of the layout to take: the fastest that fits with a fifth to spare, of equals the one that splits least."""
    best = layout.choose(job)
    if best is None:
        return "nothing fits these GPUs: more of them, a shorter sequence or a smaller micro batch"
    if best.platform == job.platform:
        return "this one"
    return f"{' '.join(best.overrides) or 'nothing split'}: {gib(best.bytes)} a GPU, {best.step_seconds:,.3g} s a step"


def _does_not_fit(cfg: Recipe, key: str, job: Layout) -> tuple[str, str]:
    """What is wrong, and the ways out of it: each fits by itself."""
    train = job.train
    shorter = range(64, train.seq_length, 64) if job.rollouts is None else ()
    length = max((size for size in shorter if _of_length(job, size).bytes <= job.room), default=0)
    recomputing = dataclasses.replace(job, platform=dataclasses.replace(job.platform, recompute=Recompute.full))
    ways = []
    if not job.sharded and dataclasses.replace(job, sharded=True).bytes <= job.room:
        ways.append("platform.shard_optimizer=true")
    ways += ["platform.recompute=full"] if recomputing.bytes <= job.room else []
    ways += [f"at most {key}.seq_length={length}"] if length else []
    batch = _rollout_batch(job, job.rollouts) if job.rollouts else 0
    ways += [f"at most {key}.rollout_batch={batch}"] if batch else []
    best = layout.choose(job)
    changes = [word for word in best.overrides if word not in job.overrides] if best else []
    ways += [" ".join(changes)] if changes and " ".join(changes) not in ways else []
    why = "" if job.sharded else f"; each copy of the model holds the optimizer's state whole, {gib(job.memory.optimizer)}"
    return (
        f"{key}.seq_length={train.seq_length}: about {gib(job.bytes)} on each GPU, {gib(job.room)} are there "
        f"(plan.gpu={cfg.plan.gpu}){why}",
        f"expected {', or '.join(ways) or 'more GPUs'}",
    )


def _rollout_batch(job: Layout, rollouts: Rollouts) -> int:
    """Completions at a time whose keys and values fit; 0: none, or it is not them that do not."""
    halves = (rollouts.batch >> shift for shift in range(1, rollouts.batch.bit_length()))
    smaller = ((batch, dataclasses.replace(rollouts, batch=batch)) for batch in halves)
    return next((batch for batch, drawn in smaller if dataclasses.replace(job, rollouts=drawn).bytes <= job.room), 0)


def _of_length(job: Layout, seq_length: int) -> Layout:
    return dataclasses.replace(job, train=dataclasses.replace(job.train, seq_length=seq_length))


def files(train: TrainConfig, model: Architecture, bytes_per_value: int) -> dict[str, int]:
    """Bytes of the files that a training writes: one checkpoint more than are kept, while the newest is written."""
    kept = f"{train.keep_checkpoints} kept{' and the best' if train.keep_best else ''}"
    steps = train.keep_checkpoints + train.keep_best + 1
    return {
        f"steps ({kept})": steps * memory.checkpoint(model, bytes_per_value, optimizer=True),
        "checkpoint": memory.checkpoint(model, bytes_per_value, optimizer=False),
    }


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
