"""What distillation would do."""

from __future__ import annotations

import dataclasses

from nemo_plugins.configs.schema import DistillConfig, Recipe, TeacherMode
from nemo_plugins.data.chat import messages
from nemo_plugins.distillation import records
from nemo_plugins.distillation.record_rows import Rows, form
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import (
    alignment_plan,
    chat_template_plan,
    checkpoint_plan,
    checks,
    inputs,
    tables,
    training_plan,
)
from nemo_plugins.planning.plan import Plan, Table, short
from nemo_plugins.runs import paths, sizes
from nemo_plugins.runs.errors import UserError

CHATS = "chats"  # what the held-out dialogues are called beside the held-out texts: val_loss_chats
HALF = 0.5  # own choice: of the windows, where dialogues are named and no share is


def reads(cfg: Recipe) -> tuple[str, ...]:
    """Sections beside its own that decide what comes out of a distillation with dialogues."""
    distill = cfg.distill
    return ("chat.template", "corpus.decontamination") if distill.chats or distill.chats_heldout else ()


def chat_share(distill: DistillConfig) -> float:
    """Of the windows that are dialogues."""
    if not distill.chats:
        return 0.0
    return HALF if distill.chat_share is None else distill.chat_share


def stage(cfg: Recipe) -> str:
    """Folder of the stage where `run.stage` names none: a recording trains nothing and is a stage of its own."""
    return "teacher-record" if cfg.teacher.mode is TeacherMode.record else "distill"


def plan(cfg: Recipe) -> Plan:
    """Validate a distillation, or the recording of a teacher for one. Raises UserError naming the key."""
    teacher, distill, mode = Architecture.from_config(cfg.model), cfg.distill, cfg.teacher.mode
    checks.distillation_loss(distill.loss, teacher.vocab_size)
    if mode is not TeacherMode.live:
        rows(cfg)
    elif distill.loss.draws is not None:
        raise UserError(
            f"distill.loss.draws={distill.loss.draws}: with teacher.mode=live the teacher's whole distribution is there",
            "expected distill.loss.draws=null, or teacher.mode=record and then cached",
        )
    _dialogues(cfg)
    if mode is TeacherMode.record:
        return _recording(cfg, teacher)
    small = sizes.student(cfg)
    made = Plan(f"distill {cfg.model.name} into {small.num_layers} layers, FFN {small.ffn_hidden_size}")
    checks.platform(made, cfg.platform, {"teacher": teacher, "student": small})
    checks.training(made, distill, "distill", cfg, 1 - chat_share(distill))
    made.need("teacher", inputs.teacher, cfg)
    made.need("earlier", paths.student, cfg)
    if mode is TeacherMode.cached:
        made.need("earlier", _recorded, cfg)
    beside = teacher if mode is TeacherMode.live else None
    training_plan.add(made, cfg, "distill", distill, small, beside)
    if distill.chats or distill.chats_heldout:
        _chat_files(made, cfg)
    if checks.on_gpu(cfg):
        gpus, width = cfg.platform.devices * cfg.platform.nodes, checks.bytes_per_value(cfg)
        checkpoint_plan.add(made, cfg.plan, distill, "distill", gpus, width, small, beside)
    made.sizes = f"{distill.max_steps:,} steps, {short(training_plan.tokens(distill))} tokens"
    return made


def _dialogues(cfg: Recipe) -> None:
    """What is asked for of dialogues can be done. Raises UserError naming the key."""
    distill, platform = cfg.distill, cfg.platform
    share = distill.chat_share
    if share is not None and not distill.chats:
        raise UserError(
            f"distill.chat_share={share:g}: distill.chats names no dialogues",
            "expected files with messages, distill.chats=[<file>.jsonl.gz], or no share",
        )
    if share is not None and not 0 < share <= 1:
        raise UserError(
            f"distill.chat_share={share:g}: expected more than 0 and at most 1, the share of the windows that are dialogues"
        )
    keys = [key for key in ("chats", "chats_heldout") if getattr(distill, key)]
    if not keys:
        return
    asked = f"distill.{keys[0]} names dialogues"
    if cfg.teacher.mode is not TeacherMode.live:
        raise UserError(
            f"teacher.mode={cfg.teacher.mode}: {asked}, and a teacher is recorded on text alone",
            f"expected teacher.mode=live, or no {' and no '.join(f'distill.{key}' for key in keys)}",
        )
    if platform.context_parallel != 1:
        raise UserError(
            f"platform.context_parallel={platform.context_parallel}: {asked}, whose loss is summed over whole sequences",
            "expected platform.context_parallel=1; platform.tensor_parallel and platform.recompute=full save memory",
        )
    if checks.fused(cfg) and distill.micro_batch_size > 1:
        raise UserError(
            f"distill.micro_batch_size={distill.micro_batch_size}: {asked}, and Transformer Engine packs one window at a time",
            "expected distill.micro_batch_size=1, or platform.transformer_engine=false",
        )
    if distill.chats_heldout and CHATS in cfg.data.heldout_more:
        raise UserError(
            f"data.heldout_more.{CHATS}: distill.chats_heldout is called so, too", "expected another name for this text"
        )


def _chat_files(made: Plan, cfg: Recipe) -> None:
    """The dialogues can be written and read; a table of them."""
    distill, template = cfg.distill, chat_template_plan.add(made, cfg, "distill")
    check = template.guarded(messages.check) if template else messages.check
    for name in ("chats", "chats_heldout"):
        for source in getattr(distill, name):
            made.need("data", alignment_plan.first_rows, source, f"distill.{name}", "drop", check)
    if distill.chats_heldout and not any(one.text.startswith("distill.chats_heldout") for one in made.missing):
        sources, batch = distill.chats_heldout, distill.global_batch_size
        made.need("data", alignment_plan.fills_a_batch, sources, "distill.chats_heldout", batch, check)
    inputs.apart(made, distill.chats, distill.chats_heldout, "distill.chats_heldout")
    alignment_plan.evaluation_items(made, cfg)
    windows, share = distill.max_steps * distill.global_batch_size, chat_share(distill)
    made.tables.append(
        Table(
            "Dialogues beside the text",
            [
                ("files", ", ".join(distill.chats) or "none: they are measured, not learned from"),
                ("windows", f"{int(windows * share):,} of {windows:,}, spread evenly; the answers' tokens alone count"),
                ("held out", ", ".join(distill.chats_heldout) or "none"),
            ],
            numbers=False,
        )
    )


def rows(cfg: Recipe) -> Rows:
    """What a recording keeps of each position. Raises UserError: nothing says so."""
    loss = cfg.distill.loss
    if loss.top_k is None and loss.draws is None:
        raise UserError(
            f"teacher.mode={cfg.teacher.mode}: distill.loss.top_k is null, and so is distill.loss.draws",
            "expected how many tokens of the vocabulary to keep: files of all would be larger than any disk,",
            "e.g. the 64 most likely (distill.loss.top_k=64) or 32 drawn at random (distill.loss.draws=32)",
        )
    return form(loss.top_k, loss.draws, cfg.model.vocab_size)


def _recording(cfg: Recipe, teacher: Architecture) -> Plan:
    """A pass of the teacher over the text that a distillation of this configuration reads."""
    distill = cfg.distill
    kept = rows(cfg)
    made = Plan(f"record {cfg.model.name} on the text of a distillation, {kept.what}")
    for key in ("pipeline_parallel", "context_parallel"):
        if getattr(cfg.platform, key) != 1:
            raise UserError(
                f"platform.{key}={getattr(cfg.platform, key)}: a teacher is recorded on whole sequences by whole models",
                f"expected platform.{key}=1; platform.tensor_parallel splits a teacher that does not fit one GPU",
            )
    checks.platform(made, cfg.platform, {"teacher": teacher})
    checks.training(made, distill, "distill", cfg)
    made.need("teacher", inputs.teacher, cfg)
    each = kept.bytes_per_token()
    size = each * training_plan.tokens(distill)
    at_most = "" if kept.exact else "at most "
    folder = paths.run_root(cfg) / (cfg.run.stage or stage(cfg))
    checks.room(made, cfg, folder, size)
    made.tables += [
        tables.sizes(teacher, None, ("teacher", "")),
        Table("Recording", [("bytes a token", f"{at_most}{each:,}"), ("tokens", f"{training_plan.tokens(distill):,}")]),
        tables.writes(folder, {"record": size}),
    ]
    made.sizes = f"{short(training_plan.tokens(distill))} tokens, {at_most}{each:,} bytes each"
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
            top_k=distill.loss.top_k,
            draws=distill.loss.draws,
            seq_length=distill.seq_length,
            samples=distill.max_steps * distill.global_batch_size,
            seed=cfg.run.seed,
            exercises=cfg.data.exercises,
        ),
    )
