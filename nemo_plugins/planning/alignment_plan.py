"""What supervised fine-tuning and preference training would do."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

from nemo_plugins.configs.schema import AlignConfig, DpoConfig, Packing, Recipe
from nemo_plugins.data.chat import messages, preferences, rows
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import chat_template_plan, checks, inputs, training_plan
from nemo_plugins.planning.plan import Plan
from nemo_plugins.runs import paths, sizes
from nemo_plugins.runs.errors import UserError

FIRST = 100  # rows of each file that a plan looks at; the stage itself looks at all of them before a model is loaded


def sft(cfg: Recipe) -> Plan:
    """Validate a supervised fine-tuning. Raises UserError naming the key."""
    made, model = begin(cfg, cfg.sft, "sft", messages.check, "fine-tune {} on dialogues")
    if cfg.sft.adaptive_tokens is not None and cfg.sft.adaptive_tokens < 1:
        raise UserError(f"sft.adaptive_tokens={cfg.sft.adaptive_tokens}: expected at least 1, or null for none")
    if cfg.sft.lora.dim is not None and cfg.sft.lora.dim < 1:
        raise UserError(f"sft.lora.dim={cfg.sft.lora.dim}: expected at least 1, or null to train all weights")
    made.need("packing", _packing, cfg)  # of the machine that trains, which may not be this one
    training_plan.add(made, cfg, "sft", cfg.sft, model)
    return made


def dpo(cfg: Recipe) -> Plan:
    """Validate a preference training. Raises UserError naming the key."""
    made, model = begin(cfg, cfg.dpo, "dpo", preferences.check, "align {} by preference pairs")
    for key, least in (("beta", 0.0), ("lam", None), ("gamma", None)):
        value = getattr(cfg.dpo, key)
        if not (value > least if least is not None else value >= 0):
            raise UserError(f"dpo.{key}={value:g}: expected {'a number above 0' if least is not None else '0 or more'}")
    # the reference scores each pair once; counted as often as it is read
    training_plan.add(made, cfg, "dpo", sequences(cfg.dpo), model, passes=1)
    return made


def sequences(pairs: DpoConfig) -> DpoConfig:
    """A preference training whose batch sizes count sequences, of which each pair has two."""
    return dataclasses.replace(
        pairs, micro_batch_size=2 * pairs.micro_batch_size, global_batch_size=2 * pairs.global_batch_size
    )


def packing(which: Packing, has_transformer_engine: bool) -> Packing:
    """What `auto` means."""
    if which is not Packing.auto:
        return which
    return Packing.thd if has_transformer_engine else Packing.mask


def begin(
    cfg: Recipe, train: AlignConfig, key: str, check: Callable, title: str, teacher: Architecture | None = None
) -> tuple[Plan, Architecture]:  # fmt: skip
    """The plan of a training on chat data, and its student. Raises UserError naming the key.

    Args:
        title: with a place for the student's name.
        teacher: that runs beside it.
    """
    model = sizes.student(cfg)
    made = Plan(title.format(f"{cfg.model.name}'s student of {model.num_layers} layers, FFN {model.ffn_hidden_size}"))
    if cfg.platform.context_parallel != 1:
        raise UserError(
            f"platform.context_parallel={cfg.platform.context_parallel}: {key} sums over whole sequences",
            "expected platform.context_parallel=1; platform.tensor_parallel and platform.recompute=full save memory",
        )
    checks.platform(made, cfg.platform, {"student": model} | ({"teacher": teacher} if teacher else {}))
    checks.schedule(train, key, cfg)
    if template := chat_template_plan.add(made, cfg, key):
        check = template.guarded(check)
    files(made, cfg, key, check)
    if not any(one.text.startswith(f"{key}.heldout") for one in made.missing):  # else it is said already
        made.need("data", fills_a_batch, train.heldout, f"{key}.heldout", train.global_batch_size, check)
    made.need("earlier", paths.policy, cfg, key)
    return made, model


def files(made: Plan, cfg: Recipe, key: str, check: Callable) -> None:
    """The files of a stage's sets, and the evaluation items that they must not hold."""
    train = getattr(cfg, key)
    for name in ("data", "heldout"):
        sources = getattr(train, name)
        if not sources:
            give = f"{key}.{name}"
            made.lack("data", f"{give} names no file", f"give {give}=[<file>.jsonl.gz]", give=give)
        for source in sources:
            made.need("data", first_rows, source, f"{key}.{name}", train.bad_rows, check)
    inputs.apart(made, train.data, train.heldout, f"{key}.heldout")
    evaluation_items(made, cfg)


def evaluation_items(made: Plan, cfg: Recipe) -> None:
    """The items that no row may hold are here, those of the hub aside."""
    for item in cfg.corpus.decontamination.items:
        if not item.startswith("hf:"):
            made.need("data", _items, item, cfg)


def first_rows(source: str, key: str, policy: str, check: Callable) -> None:
    """The file is there and its first rows are of the right kind."""
    report = rows.Report(key, "drop")
    found = list(itertools.islice(rows.read([paths.resolve(source)], check, report), FIRST))
    if policy == "error" and report.faults:
        raise UserError(f"{key}: {source}, of its first {len(found) + report.dropped} rows", *report.lines())


def fills_a_batch(sources: list[str], key: str, batch: int, check: Callable) -> None:
    """Held-out rows are as many as a batch has: a window holds one of them or more, a pair is one."""
    report = rows.Report(key, "drop")
    files = [paths.resolve(source) for source in sources]
    if not files or not all(file.is_file() for file in files):
        return
    found = sum(1 for _ in itertools.islice(rows.read(files, check, report), batch))
    if found < batch:
        raise UserError(
            f"{key} holds {found:,} usable rows, a batch is {batch:,}",
            f"expected at least one batch; give more of them, or a smaller {key.partition('.')[0]}.global_batch_size",
        )


def _items(item: str, cfg: Recipe) -> None:
    from nemo_plugins.planning import corpus_plan  # numpy

    corpus_plan.items(item, cfg.corpus.decontamination.fields)


def _packing(cfg: Recipe) -> None:
    """The way of packing fits this environment."""
    train, here = cfg.sft, checks.fused(cfg)
    which = packing(train.packing, here)
    if which is Packing.thd and not here:
        raise UserError("sft.packing=thd: Transformer Engine is not here", "expected sft.packing=mask, or auto")
    if which is Packing.mask and here:
        raise UserError(
            "sft.packing=mask: Transformer Engine is here, and its causal attention would see all dialogues",
            "expected sft.packing=thd, or auto",
        )
