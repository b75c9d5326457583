"""The plan of a chain on one screen: a row a stage, what all of it takes, what is missing by kind, and how to go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nemo_plugins.configs.schema import Recipe, SizesConfig, StageConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import budget, checks, devices, eval_plan, pace
from nemo_plugins.planning.layout import SPARE
from nemo_plugins.planning.plan import Missing, Plan, Table, gib
from nemo_plugins.platforms import arithmetic
from nemo_plugins.runs import output
from nemo_plugins.runs.command_line import line

OF_THE_MACHINE = ("device", "memory", "disk", "package")  # kinds that say nothing of a stage that runs elsewhere
FETCHES = "huggingface-cli "
NOT_FOR_THE_NEXT = ("dry_run=", "plan.commands=")
SAID_ALWAYS = ("left out", "missing", "warnings")  # titles of the tables that are for whoever submits the chain, too
INDENT = 11  # columns of a group's name


@dataclass(frozen=True)
class Part:
    """A stage of the chain; `done`: it has run already."""

    name: str
    recipe: str
    plan: Plan
    done: bool

    @property
    def fits(self) -> str:
        cost = self.plan.cost
        if self.done:
            return "done"
        if cost.bytes is None or cost.room is None:
            return ""
        return "no" if cost.bytes > cost.room else "nearly" if cost.bytes * SPARE > cost.room else "yes"


def screen(cfg: Recipe, made: Plan, parts: list[Part], left_out: list[StageConfig], detail: str) -> list[Table]:
    """Tables for `Plan.screen`.

    Args:
        left_out: stages for which no data are given.
        detail: the command that plans one of the stages in full.
    """
    on_gpu = checks.on_gpu(cfg)
    lacking = [one for one in made.missing if not (checks.elsewhere(cfg) and one.kind in OF_THE_MACHINE)]
    tables = [_platform(cfg, parts), _stages(cfg, parts, on_gpu), _total(cfg, made, parts, on_gpu)]
    if left_out:
        tables.append(Table(SAID_ALWAYS[0], [_asks(stage) for stage in left_out], lines=True))
    hub = sum(part.plan.hub for part in parts if not part.done)
    if missing := _missing(lacking, hub):
        tables.append(Table(SAID_ALWAYS[1], missing, lines=True))
    if warnings := _warnings(parts):
        tables.append(Table(SAID_ALWAYS[2], warnings, lines=True))
    return [*tables, _next(cfg, bool(lacking), detail)]


def _asks(stage: StageConfig) -> tuple[str, str]:
    """What would have a stage in the chain."""
    if not stage.needs:
        return _label(stage.name), f"comes with {', '.join(stage.after[:-1])} or {stage.after[-1]}"
    return _label(stage.name), f"no {stage.what}: {' '.join(f'{key}=[<file>]' for key in stage.needs)}"


def _platform(cfg: Recipe, parts: list[Part]) -> Table:
    """What it is planned for, and the sizes."""
    rows = []
    if any(part.recipe == "prune" for part in parts):
        teacher, student = Architecture.from_config(cfg.model), checks.student(cfg)
        old, new = teacher.parameters(), student.parameters()
        rows.append((f"teacher {old:,} parameters, student {new:,} ({new / old - 1:+.2%})",))
        if cfg.model.recommended.student == SizesConfig():  # nobody has said before what it looks like
            rows.append((f"student: {budget.describe(student)}; another by prune.num_layers=N prune.ffn_hidden_size=N",))
    platform = cfg.platform
    if checks.on_gpu(cfg):
        gpu = devices.load(cfg.plan.gpu, "plan.gpu")
        nodes = f"{platform.nodes} node{'s' * (platform.nodes > 1)} of {platform.devices} x {gpu.name}"
        rows.append(
            (f"planned for {nodes} (plan.gpu={cfg.plan.gpu}), {cfg.plan.mfu:.0%} of the peak (plan.mfu={cfg.plan.mfu:g})",)
        )
        rows.append((f"Transformer Engine: {checks.engine(cfg)}",))
    else:
        cores = pace.cores(cfg)
        rows.append((f"planned for {cores} core{'s' * (cores > 1)} of this CPU, {arithmetic.reason(platform, False)}",))
    return Table("", rows, lines=True)


def _stages(cfg: Recipe, parts: list[Part], on_gpu: bool) -> Table:
    rows = []
    for part in parts:
        cost, price = part.plan.cost, devices.usd_an_hour(cfg.plan)
        memory = f"{cost.bytes / 2**30:,.1f}{' host' * cost.on_host}" if cost.bytes else ""
        if on_gpu:
            hours = cost.gpu_hours
            money = f"{hours * price:,.0f}" if hours is not None and price is not None else ""
            row: tuple[str, ...] = (
                str(cost.gpus or ""),
                cost.layout,
                memory,
                part.fits,
                _hours(cost.hours),
                _hours(hours),
                money,
            )
        else:
            row = (memory, part.fits, "" if cost.hours is None else f"{60 * cost.hours:,.1f}")
        rows.append((part.name, *row, part.plan.sizes))
    if on_gpu:
        columns = ["stage", "GPUs", "layout", "GiB", "fits", "hours", "GPU-h", "USD", "of"]
    else:
        columns = ["stage", "GiB", "fits", "minutes", "of"]
    return Table("", rows, columns, plain=True)


def _total(cfg: Recipe, made: Plan, parts: list[Part], on_gpu: bool) -> Table:
    left = [part for part in parts if not part.done]
    hours = [part.plan.cost.hours for part in left if part.plan.cost.hours is not None]
    gpu_hours = sum(part.plan.cost.gpu_hours or 0 for part in left)
    if on_gpu:
        price = devices.usd_an_hour(cfg.plan)
        money = f", {gpu_hours * price:,.0f} USD at {price:g} an hour (plan.usd_an_hour)" if price is not None else ""
        said = f"{gpu_hours:,.0f} GPU-hours{money}, {sum(hours) / 24:,.1f} days one after the other"
    else:
        said = f"about {output.duration(3600 * sum(hours))} on this CPU, within a factor of two"
    rows = [
        (_label("in all"), said),
        (_label("disk"), f"{gib(made.writes)} below run.root; {gib(checks.free_disk(cfg))} are free here"),
    ]
    rows += [(_label(part.name), part.plan.cost.note) for part in left if part.plan.cost.note]
    if unknown := [part.name for part in left if part.plan.cost.hours is None]:
        rows.append((_label("not timed"), ", ".join(unknown)))
    if on_gpu:
        rows.append(
            (_label("good to"), 'a fifth in memory ("nearly": no more than that is spare); hours count every place of a window')
        )
    return Table("", rows, lines=True)


def _missing(lacking: list[Missing], hub: int) -> list[tuple[str, str]]:
    """Lines by kind, each with what mends it."""
    rows: list[tuple[str, str]] = []

    def add(label: str, *said: str) -> None:
        rows.extend((_label(label if not number else ""), text) for number, text in enumerate(said))

    of = {kind: [one for one in lacking if one.kind == kind] for kind in dict.fromkeys(one.kind for one in lacking)}
    for text in _by_command(of.pop("weights", []) + of.pop("teacher", [])):
        first, *rest = text.splitlines()
        add("weights", first, *(part.strip() for part in rest if part.strip().startswith((FETCHES, "then "))))
    texts = of.pop("data", [])
    if given := dict.fromkeys(one.give for one in texts if one.give):
        add("texts", f"give {', '.join(given)}")
    for one in texts:
        if not one.give:
            add("texts", "; ".join(map(str.strip, one.text.splitlines())))
    for one in of.pop("tasks", []):
        first, *rest = one.text.splitlines()
        add("tasks", first, *(short for part in rest if not part.startswith(" ") for short in _shorter(part)))
    if hub:
        add("data sets", f"{hub} {eval_plan.FROM_HUB}")
    for one in of.pop("fit", []):
        key, ways = one.text.partition("=")[0], one.text.splitlines()[-1]
        add("too large", f"{key.partition('.')[0]}: {ways}")
    for kind, ones in of.items():
        for one in ones:
            add("GPUs" if kind == "device" else kind, *one.text.splitlines())
    return rows


def _shorter(text: str) -> list[str]:
    """Commands one after the other, a line each."""
    return text.removeprefix("get them: ").replace(" && ", "\n").replace(", then ", "\n").split("\n")


def _by_command(missing: Iterable[Missing]) -> list[str]:
    """One text of those whose weights the same command fetches."""
    found: dict[str, str] = {}
    for one in missing:
        command = next((part.strip() for part in one.text.splitlines() if part.strip().startswith(FETCHES)), one.text)
        found.setdefault(command, one.text)
    return list(found.values())


def _warnings(parts: list[Part]) -> list[tuple[str]]:
    """Each once, with the stages that it is about."""
    found: dict[str, list[str]] = {}
    for part in parts:
        for text in part.plan.warnings:
            if "/" not in part.name and not text.endswith(eval_plan.FROM_HUB):
                found.setdefault(text, []).append(part.name)
    return [(f"{', '.join(names)}: {text}",) for text, names in found.items()]


def _next(cfg: Recipe, lacks: bool, detail: str) -> Table:
    """Commands to paste: one stage's plan, and the chain itself."""
    words = [word for word in cfg.run.typed if not word.startswith(NOT_FOR_THE_NEXT)]
    whole = line("minitron", words)
    if checks.elsewhere(cfg) or cfg.platform.nodes > 1:
        whole = whole.replace("python recipes/minitron.py", "bash slurm/minitron.sh", 1)
    label = "then" if lacks else "run it"
    rows = [(_label("a stage"), detail), (_label("commands"), line("minitron", [*words, "dry_run=true", "plan.commands=true"]))]
    rows.append((_label(label), f"{whole}{' …  with what is missing' * lacks}"))
    return Table("next", rows, lines=True)


def _hours(hours: float | None) -> str:
    return "" if hours is None else f"{hours:,.0f}" if hours >= 100 else f"{hours:,.1f}"


def _label(text: str) -> str:
    return f"{text:<{INDENT}}"
