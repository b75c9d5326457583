"""What pruning would do."""

from __future__ import annotations

from dataclasses import replace

from nemo_plugins.configs.schema import Criterion, Recipe
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, devices, inputs, memory, pace, tables
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Cost, Plan, Table, short
from nemo_plugins.pruning import score_file
from nemo_plugins.runs import command_line, paths
from nemo_plugins.runs.errors import UserError

# A product in fp32 takes so many times one in bf16. An H100: 989 to 67 TFLOP/s. A CPU that has bf16: the ratio of pace.SHARES
FP32_ON_GPU, FP32_ON_CPU = 15, 2


def plan(cfg: Recipe) -> Plan:
    """Validate a pruning. Raises UserError naming the key."""
    teacher, student = Architecture.from_config(cfg.model), checks.student(cfg)
    made = Plan(f"prune {cfg.model.name}: {_taken(cfg, teacher, student)}")
    wrong = [key for key in ("tensor_parallel", "context_parallel") if getattr(cfg.platform, key) != 1]
    if wrong:
        more = [key for key in command_line.PROCESSES if getattr(cfg.platform, key) != 1]
        given = " ".join(f"platform.{key}={getattr(cfg.platform, key)}" for key in wrong)
        raise UserError(
            f"{given}: NeMo prunes at {' and '.join(wrong)} 1",
            f"expected one process: {' '.join(f'platform.{key}=1' for key in more)}",
            "or a pipeline, with platform.pipeline_parallel the number of processes",
        )
    checks.platform(made, cfg.platform, {"teacher": teacher})
    if memory.data_parallel(cfg.platform) != 1:
        raise UserError(
            f"platform.devices={cfg.platform.devices} x nodes={cfg.platform.nodes} leaves data-parallel copies",
            "importance is measured on one copy of the teacher: "
            f"expected platform.pipeline_parallel={cfg.platform.devices * cfg.platform.nodes}, or one process",
        )
    calibration = cfg.prune.calibration
    at_least(1, calibration, "prune.calibration", "samples", "seq_length", "micro_batch_size")
    if calibration.samples % calibration.micro_batch_size:
        raise UserError(
            f"prune.calibration.samples={calibration.samples} is not a multiple of prune.calibration.micro_batch_size="
            f"{calibration.micro_batch_size}"
        )
    checks.document_boundaries(cfg, "prune.calibration.micro_batch_size", calibration.micro_batch_size)
    if calibration.subsets < 1 or calibration.loss_samples < 0:
        raise UserError(
            f"prune.calibration.subsets={calibration.subsets}, .loss_samples={calibration.loss_samples}",
            "expected at least 1 subset and at least 0 samples",
        )
    if cfg.prune.scores:
        made.need("data", _scores, cfg.prune.scores, teacher)
    checks.fits_context("prune.calibration.seq_length", calibration.seq_length, cfg.model)
    inputs.data(made, cfg, calibration.data, "prune.calibration.data", "data.train")
    inputs.data(made, cfg, cfg.data.heldout, "data.heldout", "data.heldout")
    inputs.heldout(made, cfg, calibration.seq_length, calibration.micro_batch_size, more=False)
    inputs.apart(made, calibration.data, cfg.data.heldout, "data.heldout")
    made.need("teacher", inputs.teacher, cfg)

    on_gpu, width = checks.on_gpu(cfg), checks.bytes_per_value(cfg)
    of_process = memory.pruning if on_gpu else memory.pruning_on_cpu
    need = of_process(teacher, calibration.micro_batch_size * calibration.seq_length, cfg.platform, width)
    cuts_ffn = student.ffn_hidden_size != teacher.ffn_hidden_size
    if compensates := cfg.prune.compensate and cuts_ffn:
        need = replace(need, moments=memory.ffn_moments(teacher, student.num_layers, cfg.platform))
    folder = paths.run_root(cfg) / (cfg.run.stage or "prune")
    files = {"checkpoint": memory.checkpoint(student, width, optimizer=False)}
    checks.room(made, cfg, folder, sum(files.values()))
    tokens = calibration.samples * calibration.seq_length
    made.tables += [
        tables.sizes(teacher, student),
        *tables.budget(made, cfg.prune.budget, teacher, student),
        Table(
            "Calibration",
            [
                ("samples x tokens", f"{calibration.samples:,} x {calibration.seq_length:,} = {tokens:,}"),
                ("criterion", cfg.prune.criterion.value),
                *([("compensation", f"another pass, {tokens:,} tokens")] if compensates else []),
                ("text", ", ".join(calibration.data) or "not named"),
            ],
        ),
        tables.memory(need, cfg.platform, on_gpu),
        tables.writes(folder, files),
    ]
    removals = calibration.loss_samples * teacher.num_layers  # each layer's by itself
    samples = calibration.samples + removals + 2 * cfg.data.heldout_samples  # held-out loss before and after
    flops = teacher.flops_per_token(calibration.seq_length) * samples * calibration.seq_length
    if compensates:
        flops += _compensation(teacher, student, calibration.seq_length, on_gpu) * tokens
    if on_gpu:
        gpu, gpus = devices.load(cfg.plan.gpu, "plan.gpu"), cfg.platform.devices * cfg.platform.nodes
        each = flops / (gpu.flops_per_second * cfg.plan.mfu)  # the stages of a pipeline wait for each other
        made.cost = Cost(need.total, cfg.platform.gpu_memory_bytes, gpus, (pace.START + each) / 3600)
        tables.too_large(made, need, cfg.platform)
    else:
        made.seconds = pace.START + pace.seconds(cfg, flops)
        made.cost = Cost(need.total, checks.free_memory(), hours=made.seconds / 3600)
        made.tables.append(pace.table(made.seconds, cfg))
    if cfg.prune.compensate and not cuts_ffn:
        made.warnings.append("prune.compensate=true changes nothing: prune.ffn_hidden_size is the teacher's")
    if cfg.prune.criterion is Criterion.random:
        made.warnings.append("prune.criterion=random: a baseline, not a student to keep")
    if student.parameters() < teacher.parameters() * 2 / 3 * 0.99:
        made.warnings.append(
            "more than a third of the parameters goes: the rule of thumb is to prune at most a third at a time"
        )
    made.sizes = f"{short(tokens)} tokens"
    return made


def _compensation(teacher: Architecture, student: Architecture, seq_length: int, on_gpu: bool) -> int:
    """FLOPs a token of `prune.compensate`, those in fp32 counted as so many more in the platform's own precision."""
    shallow = teacher.with_sizes(num_layers=student.num_layers)
    products = 2 * student.num_layers * teacher.ffn_hidden_size**2
    return shallow.flops_per_token(seq_length) + products * (FP32_ON_GPU if on_gpu else FP32_ON_CPU)


def _scores(scores: str, teacher: Architecture) -> None:
    """As much of `score_file.check` as needs no torch: the rest is held against the teacher once it is there."""
    path = paths.resolve(scores)
    differ = score_file.read_header(path).differences(teacher.as_dict())
    if differ:
        raise UserError(f"prune.scores: {path} holds scores of another teacher:", *(f"  {line}" for line in differ))


def _taken(cfg: Recipe, teacher: Architecture, student: Architecture) -> str:
    if cfg.prune.drop_layers:
        return f"layers {', '.join(map(str, sorted(cfg.prune.drop_layers)))} of {teacher.num_layers} go (counted from 1)"
    changed = [key for key in tables.SIZES if getattr(teacher, key) != getattr(student, key)]
    return ", ".join(f"{key} {getattr(teacher, key)} to {getattr(student, key)}" for key in changed)
