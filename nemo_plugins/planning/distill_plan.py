"""What distillation would do."""

from __future__ import annotations

import dataclasses

from nemo_plugins.configs.schema import Recipe, TeacherMode
from nemo_plugins.distillation import records
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checkpoint_plan, checks, inputs, tables, training_plan
from nemo_plugins.planning.plan import Plan, Table, short
from nemo_plugins.runs import paths, sizes
from nemo_plugins.runs.errors import UserError


def stage(cfg: Recipe) -> str:
    """Folder of the stage where `run.stage` names none: a recording trains nothing and is a stage of its own."""
    return "teacher-record" if cfg.teacher.mode is TeacherMode.record else "distill"


def plan(cfg: Recipe) -> Plan:
    """Validate a distillation, or the recording of a teacher for one. Raises UserError naming the key."""
    teacher, distill, mode = Architecture.from_config(cfg.model), cfg.distill, cfg.teacher.mode
    checks.distillation_loss(distill.loss, teacher.vocab_size)
    if mode is not TeacherMode.live:
        recorded_tokens(cfg)
    if mode is TeacherMode.record:
        return _recording(cfg, teacher)
    small = sizes.student(cfg)
    made = Plan(f"distill {cfg.model.name} into {small.num_layers} layers, FFN {small.ffn_hidden_size}")
    checks.platform(made, cfg.platform, {"teacher": teacher, "student": small})
    checks.training(made, distill, "distill", cfg)
    made.need("teacher", inputs.teacher, cfg)
    made.need("earlier", paths.student, cfg)
    if mode is TeacherMode.cached:
        made.need("earlier", _recorded, cfg)
    beside = teacher if mode is TeacherMode.live else None
    training_plan.add(made, cfg, "distill", distill, small, beside)
    if checks.on_gpu(cfg):
        gpus, width = cfg.platform.devices * cfg.platform.nodes, checks.bytes_per_value(cfg)
        checkpoint_plan.add(made, cfg.plan, distill, "distill", gpus, width, small, beside)
    made.sizes = f"{distill.max_steps:,} steps, {short(training_plan.tokens(distill))} tokens"
    return made


def recorded_tokens(cfg: Recipe) -> int:
    """Tokens of the vocabulary that a recording keeps, `distill.loss.top_k`. Raises UserError: it is null."""
    if cfg.distill.loss.top_k is None:
        raise UserError(
            f"teacher.mode={cfg.teacher.mode}: distill.loss.top_k is null",
            "expected how many tokens of the vocabulary to keep: files of all would be larger than any disk, e.g. 64",
        )
    return cfg.distill.loss.top_k


def _recording(cfg: Recipe, teacher: Architecture) -> Plan:
    """A pass of the teacher over the text that a distillation of this configuration reads."""
    distill = cfg.distill
    made = Plan(f"record {cfg.model.name} on the text of a distillation, the {distill.loss.top_k} most likely tokens of each")
    for key in ("pipeline_parallel", "context_parallel"):
        if getattr(cfg.platform, key) != 1:
            raise UserError(
                f"platform.{key}={getattr(cfg.platform, key)}: a teacher is recorded on whole sequences by whole models",
                f"expected platform.{key}=1; platform.tensor_parallel splits a teacher that does not fit one GPU",
            )
    checks.platform(made, cfg.platform, {"teacher": teacher})
    checks.training(made, distill, "distill", cfg)
    made.need("teacher", inputs.teacher, cfg)
    each = records.bytes_per_token(recorded_tokens(cfg), teacher.vocab_size)
    size = each * training_plan.tokens(distill)
    folder = paths.run_root(cfg) / (cfg.run.stage or stage(cfg))
    checks.room(made, cfg, folder, size)
    made.tables += [
        tables.sizes(teacher, None, ("teacher", "")),
        Table("Recording", [("bytes a token", f"{each:,}"), ("tokens", f"{training_plan.tokens(distill):,}")]),
        tables.writes(folder, {"record": size}),
    ]
    made.sizes = f"{short(training_plan.tokens(distill))} tokens, {each:,} bytes each"
    return made


def _recorded(cfg: Recipe) -> None:
    """The recording is here and of this loss, length and order; whose text and teacher it is of, the stage itself sees."""
    folder = paths.record(cfg)
    found, _ = records.read_header(folder)
    distill = cfg.distill
    records.check(
        folder,
        dataclasses.replace(
            found,
            temperature=distill.loss.temperature,
            top_k=recorded_tokens(cfg),
            seq_length=distill.seq_length,
            samples=distill.max_steps * distill.global_batch_size,
            seed=cfg.run.seed,
            exercises=cfg.data.exercises,
        ),
    )
