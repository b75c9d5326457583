"""What an on-policy distillation would do."""

from __future__ import annotations

import json
from pathlib import Path

from nemo_plugins.configs.schema import Recipe, TeacherMode
from nemo_plugins.data.chat import prompts, rows
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import alignment_plan, checks, grpo_plan, inputs, training_plan
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.planning.rollouts import Rollouts
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError


def plan(cfg: Recipe) -> Plan:
    """Validate an on-policy distillation. Raises UserError naming the key."""
    opd, teacher = cfg.opd, Architecture.from_config(cfg.model)
    _ranges(cfg)
    checks.distillation_loss(opd.loss, teacher.vocab_size, "opd")
    made, model = alignment_plan.begin(cfg, opd, "opd", checker(cfg, "heldout"), "distil into {} on its own answers", teacher)
    made.need("teacher", inputs.teacher, cfg)
    made.need("teacher", _same_tokens, cfg)
    if opd.share < 1:
        made.need("data", _answered, cfg)
    rollouts = Rollouts(opd.global_batch_size, opd.rollout_batch, opd.seq_length, opd.max_tokens, 1)
    training_plan.add(made, cfg, "opd", opd, model, teacher, rollouts=rollouts)
    made.tables.insert(1, _table(cfg))
    return made


def checker(cfg: Recipe, name: str) -> rows.Check[prompts.Prompt]:
    """The check of a set's rows; a training that learns from answers of the data wants one in each row."""
    grpo = cfg.grpo
    answered = name == "data" and cfg.opd.share < 1
    return prompts.open_checker(grpo.rewards, grpo_plan.options(cfg), grpo.own_rewards, answered=answered)


def _ranges(cfg: Recipe) -> None:
    opd, loss = cfg.opd, cfg.opd.loss
    at_least(1, opd, "opd", "max_tokens", "rollout_batch")
    if opd.max_tokens >= opd.seq_length:
        raise UserError(
            f"opd.max_tokens={opd.max_tokens}: prompt and completion together have opd.seq_length={opd.seq_length}",
            f"expected less than {opd.seq_length}, e.g. opd.max_tokens={opd.seq_length // 2}",
        )
    if not 0 <= opd.share <= 1:
        raise UserError(
            f"opd.share={opd.share:g}: expected from 0 (the answers of the data alone) to 1 (the student's own alone)"
        )
    if loss.alpha != 1:
        raise UserError(
            f"opd.loss.alpha={loss.alpha:g}: cross-entropy on what the student itself has drawn teaches it nothing",
            "expected 1; opd.share below 1 has it learn from the answers of the data, too",
        )
    if loss.draws is not None:
        raise UserError(
            f"opd.loss.draws={loss.draws}: the teacher runs, its whole distribution is there", "expected opd.loss.draws=null"
        )
    if cfg.teacher.mode is not TeacherMode.live:
        raise UserError(
            f"teacher.mode={cfg.teacher.mode}: what the student will draw is in no file", "expected teacher.mode=live"
        )
    if cfg.platform.pipeline_parallel != 1:
        raise UserError(
            f"platform.pipeline_parallel={cfg.platform.pipeline_parallel}: NeMo runs no teacher in a pipeline's validation",
            "expected platform.pipeline_parallel=1; platform.tensor_parallel splits both models",
        )


def _answered(cfg: Recipe) -> None:
    """There are rows that end with an answer. Raises UserError: none does."""
    files = [paths.resolve(source) for source in cfg.opd.data]
    if all(file.is_file() for file in files):
        next(rows.read(files, checker(cfg, "data"), rows.Report("opd.data", "drop")), None)


def _same_tokens(cfg: Recipe) -> None:
    """Teacher and student have one vocabulary: a distribution over other tokens says nothing."""
    try:
        found = [paths.description(paths.policy(cfg, "opd"))]
        imported = cfg.teacher.path or paths.find(cfg, "convert-import")
        found.append(paths.description(paths.teacher(cfg)) if imported else Path(inputs.teacher(cfg)))
    except UserError:  # one of them is not here, and told so otherwise
        return
    files = [folder / "tokenizer.json" for folder in found if folder]
    if len(files) < len(found) or not all(file.is_file() for file in files):
        return
    student, teacher = (json.loads(file.read_text())["model"]["vocab"] for file in files)
    if student != teacher:
        raise UserError(
            f"teacher and student have other tokens: {files[1]} has {len(teacher):,}, {files[0]} {len(student):,}",
            "expected one tokenizer; a student whose vocabulary was changed learns from a teacher whose was changed alike",
            "(docs/tokenizers.md)",
        )


def _table(cfg: Recipe) -> Table:
    opd, loss = cfg.opd, cfg.opd.loss
    tokens = "the whole vocabulary" if loss.top_k is None else f"the teacher's {loss.top_k:,} most likely tokens"
    return Table(
        "Completions",
        [
            ("a step", f"{opd.global_batch_size:,}, one a prompt, of at most {opd.max_tokens:,} tokens"),
            ("on-policy", f"{opd.share:.0%} of the steps; the others have the answers of the data"),
            ("loss", f"{loss.kind} over {tokens}, temperature {loss.temperature:g}"),
        ],
    )
