"""The tables of `recipes/plan.py`: what a student costs to make and to serve, beside what the paper states."""

from __future__ import annotations

from nemo_plugins.configs.schema import Format, Recipe
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import (
    alignment_plan,
    checkpoint_plan,
    checks,
    decode,
    devices,
    estimate,
    fit,
    grpo_plan,
    layout,
    memory,
    rollouts,
    tables,
    training_plan,
    work,
)
from nemo_plugins.planning.budget import gigabytes
from nemo_plugins.planning.estimate import MFUS, PAPER, SEQ_LENGTHS, TRAINING_PASSES, Estimate
from nemo_plugins.planning.plan import Plan, Table, gib


def plan(cfg: Recipe) -> Plan:
    """Validate what a plan needs: sizes, parallelism, schedule and assumptions. Raises UserError naming the key."""
    made_of = estimate.make(cfg)
    teacher, student = made_of.teacher, made_of.student
    made = Plan(f"plan {cfg.model.name}: {teacher.parameters():,} to {student.parameters():,} parameters")
    checks.distillation_loss(cfg.distill.loss, teacher.vocab_size)
    checks.platform(made, cfg.platform, {"teacher": teacher, "student": student})
    checks.training(made, cfg.distill, "distill", cfg)
    made.missing.clear()  # a plan needs neither text nor weights nor GPUs on this machine
    on_gpu = checks.on_gpu(cfg)
    made.tables += [
        tables.sizes(teacher, student),
        *tables.budget(made, cfg.prune.budget, teacher, student),
        training_plan.schedule(cfg.distill, student, teacher),
        cost(made_of),
        alignment(made_of, cfg),
        tables.memory(made_of.memory, cfg.platform, on_gpu),
    ]
    if on_gpu:
        tables.too_large(made, made_of.memory, cfg.platform)
        made.tables.append(layouts(cfg, teacher, student))
        width = made_of.bytes_per_value
        checkpoint_plan.add(made, cfg.plan, cfg.distill, "distill", made_of.gpus, width, student, teacher)
    if estimate.Paper.is_same(teacher, PAPER.teacher):
        made.tables += papers_hours(made_of)
    made.tables += [disk(made_of), serving(made_of), speed(made_of)]
    made.tables.append(fit.table([("teacher", teacher), ("student", student)], made_of.context))
    made.warnings += _does_not_fit(made_of, cfg)
    made.sizes = f"{made_of.gpu_hours:,.0f} GPU-hours"
    return made


def cost(made_of: Estimate) -> Table:
    """Arithmetic and hours of the distillation."""
    length = made_of.train.seq_length
    student = TRAINING_PASSES * made_of.student.flops_per_token(length)
    return Table(
        "Distillation, estimated",
        [
            ("student, forward and backward", f"{student:.4g} FLOP a token"),
            ("teacher, forward", f"{made_of.teacher.flops_per_token(length):.4g} FLOP a token"),
            ("GPU (plan.gpu)", f"{made_of.gpu.name}, {made_of.gpu.peak_tflops:g} TFLOPS at MFU {made_of.mfu:g}"),
            ("GPU-hours", f"{made_of.gpu_hours:,.4g}" if made_of.gpu_hours < 100 else f"{made_of.gpu_hours:,.0f}"),
            (f"days on {made_of.gpus:,} GPU{'s' * (made_of.gpus > 1)}", f"{made_of.days:,.3g}"),
        ],
    )


def alignment(made_of: Estimate, cfg: Recipe) -> Table:
    """What SFT and preference training would take after it, at the same MFU; every place of a sequence counts as a token."""
    columns = []
    for train in (cfg.sft, alignment_plan.sequences(cfg.dpo)):
        tokens = work.tokens(train)
        flops = TRAINING_PASSES * made_of.student.flops_per_token(train.seq_length) * tokens
        hours = flops / (made_of.gpu.flops_per_second * made_of.mfu) / 3600
        need = memory.training(
            made_of.student,
            train,
            cfg.platform,
            checks.bytes_per_value(cfg),
            sharded=checks.sharded(cfg),
        ).total
        columns.append(
            (
                f"{train.max_steps:,}",
                f"{train.global_batch_size:,} x {train.seq_length:,}",
                f"{tokens:,}",
                f"{hours:,.4g}",
                f"{hours / made_of.gpus / 24:,.3g}",
                gib(need),
            )
        )
    names = (
        "steps",
        "sequences a step",
        "tokens at most",
        "GPU-hours at most",
        f"days on {made_of.gpus:,} GPUs",
        "memory of a GPU",
    )
    return Table("Alignment, estimated", list(zip(names, *columns, strict=True)), ["", "SFT", "preference pairs"])


def layouts(cfg: Recipe, teacher: Architecture, student: Architecture) -> Table:
    """For each training the layout of these GPUs that fits with a fifth to spare and loses least, as overrides to paste."""
    drawn = rollouts.of(cfg.grpo, grpo_plan.updates(cfg))
    jobs = {
        "distill": layout.of(cfg, cfg.distill, student, teacher),
        "sft": layout.of(cfg, cfg.sft, student),
        "dpo": layout.of(cfg, alignment_plan.sequences(cfg.dpo), student, passes=1),
        "grpo": layout.of(cfg, cfg.grpo, student, passes=2, rollouts=drawn),
    }
    rows = []
    for name, job in jobs.items():
        best = layout.choose(job)
        if best is None:
            rows.append((name, "none fits", "", "", ""))
            continue
        named, hours = " ".join(best.overrides) or "nothing split", 24 * best.days
        rows.append((name, named, gib(best.bytes), f"{hours:,.4g}", f"{hours * best.gpus:,.0f}"))
    many = f"{cfg.platform.nodes} x {cfg.platform.devices} {jobs['distill'].gpu.name}"
    return Table(
        f"Layouts for {many}; Transformer Engine: {checks.engine(cfg)}",
        rows,
        ["", "recommended", "a GPU", "hours", "GPU-hours"],
    )


def papers_hours(made_of: Estimate) -> list[Table]:
    """Hours of the paper's samples on the paper's GPUs by what it does not state, and which of them are the paper's."""
    gpu, (least, most) = devices.load(PAPER.gpu, "gpu"), PAPER.hours
    rows, within = [], []
    for length in SEQ_LENGTHS:
        row = [f"{length:,} tokens, {PAPER.samples * length / 1e9:,.1f} B in all"]
        for mfu in MFUS:
            hours = made_of.hours(length, mfu, gpu, PAPER.gpus, PAPER.samples)
            inside = least <= hours <= most
            row.append(f"{hours:.1f} h{' *' * inside}")
            within += [f"{length:,} tokens at MFU {mfu:g}"] * inside
        rows.append(tuple(row))
    implied = []
    for mfu in MFUS:
        lengths = [made_of.seq_length_of(hours, mfu, gpu, PAPER.gpus, PAPER.samples) for hours in PAPER.hours]
        low, high = (length * PAPER.samples / 1e9 for length in lengths)
        implied.append((f"MFU {mfu:g}", f"{lengths[0]:,.0f} to {lengths[1]:,.0f}", f"{low:.1f} to {high:.1f} B"))
    return [
        Table(
            f"The paper's {PAPER.steps:,} steps, {PAPER.samples:,} samples, on {PAPER.gpus} {gpu.name}; its sequence length is "
            f"not stated. * lies in its {least:g} to {most:g} h",
            rows,
            ["sequence", *(f"MFU {mfu:g}" for mfu in MFUS)],
        ),
        Table(
            f"What {least:g} to {most:g} h imply; of the above {'; '.join(within) or 'nothing'} reaches them",
            implied,
            ["", "tokens a sample", "tokens in all"],
        ),
    ]


def disk(made_of: Estimate) -> Table:
    """Space for the whole chain."""
    rows = [(name, gigabytes(size)) for name, size in made_of.disk.items()]
    return Table("Disk", [*rows, ("total", gigabytes(sum(made_of.disk.values())))])


def serving(made_of: Estimate) -> Table:
    """Whether teacher and student fit the device, in every format; the one that was asked for is marked."""
    rows = []
    for format in Format:
        teacher, student = (made_of.served(model, format) for model in (made_of.teacher, made_of.student))
        faster = f"{decode.speed_up(made_of.teacher, made_of.student, format, made_of.context) - 1:+.1%}"
        rows.append(
            (
                f"{format}{' (plan.format)' * (format is made_of.format)}",
                *(gigabytes(one.weights) for one in (teacher, student)),
                *("fits" if one.fits else "no" for one in (teacher, student)),
                *(f"{one.milliseconds:.2f}" for one in (teacher, student)),
                faster,
            )
        )
    caches = (gigabytes(decode.cache_bytes(model, made_of.context)) for model in (made_of.teacher, made_of.student))
    rows.append((f"+ cache of {made_of.context:,} tokens, 2 bytes", *caches, "", "", "", "", ""))
    return Table(
        f"Weights on {made_of.device.name} (plan.device), {gigabytes(made_of.device.usable_bytes)} usable; least ms a token",
        rows,
        ["", "teacher", "student", "teacher fits", "student fits", "teacher ms", "student ms", "faster"],
    )


def speed(made_of: Estimate) -> Table:
    """Predicted time of a token beside what the paper measured."""
    models = (made_of.teacher, made_of.student)

    def bound(device: devices.Device, format: Format, context: int) -> tuple[str, ...]:
        times = [decode.milliseconds(model, device, format, context) for model in models]
        return (*(f"{time:.3g} ms, {1e3 / time:,.1f} tokens/s" for time in times), f"{times[0] / times[1] - 1:+.1%}")

    rows: list[tuple[str, ...]] = [
        (
            f"bound: {made_of.device.name}, {made_of.format}, {made_of.context:,} tokens",
            *bound(made_of.device, made_of.format, made_of.context),
        )
    ]
    if estimate.Paper.is_same(models[0], PAPER.teacher) and estimate.Paper.is_same(models[1], PAPER.student):
        device = devices.load(PAPER.device, "device")
        rate = PAPER.tokens_per_second
        measured = [f"{time:.2f} ms, {each:.2f} tokens/s" for time, each in zip(PAPER.milliseconds, rate, strict=True)]
        rows.append((f"bound: {device.name}, bf16, no context", *bound(device, Format.bf16, 0)))
        rows.append((f"quoted, measured by the paper: {device.name}, bf16", *measured, f"{rate[1] / rate[0] - 1:+.1%}"))
    return Table("Speed of one stream: bound by the bytes that a token moves", rows, ["", "teacher", "student", "faster"])


def _does_not_fit(made_of: Estimate, cfg: Recipe) -> list[str]:
    warnings = []
    for name, model in (("teacher", made_of.teacher), ("student", made_of.student)):
        served = made_of.served(model, made_of.format)
        if not served.fits:
            others = [format.value for format in Format if made_of.served(model, format).fits]
            warnings.append(
                f"the {name} does not fit plan.device={cfg.plan.device} in plan.format={made_of.format}: weights "
                f"{gigabytes(served.weights)} and cache {gigabytes(served.cache)} of {gigabytes(made_of.device.usable_bytes)} "
                f"usable; it fits in {', '.join(others) or 'no format'}"
            )
    if made_of.context > made_of.teacher.context_length:
        warnings.append(f"plan.context={made_of.context}: the model's own context is {made_of.teacher.context_length}")
    return warnings
