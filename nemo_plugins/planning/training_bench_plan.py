"""What a measurement of a training would run: a few steps of the stage itself, in a run of their own, beside its plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nemo_plugins.configs.schema import Recipe, TeacherMode, TrainConfig
from nemo_plugins.planning import pace
from nemo_plugins.planning.plan import Plan, Table, gib
from nemo_plugins.runs import paths
from nemo_plugins.runs.command_line import key_of, layout, override
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name

MEASURED = ("pretrain", "distill", "sft", "dpo")  # most of a step of GRPO is no training: completions are drawn before it
ON_TEXT = ("pretrain", "distill")
OF_THE_MEASUREMENT = ("dry_run", "force", "run.stage")  # overrides that the training itself is not given


@dataclass(frozen=True)
class Figures:
    """What a plan says of a whole training: the hours of its steps, bytes of memory on each GPU or of the process, and the MFU
    that the hours are reckoned with, None on a CPU."""

    hours: float
    bytes: float
    mfu: float | None


def reads(cfg: Recipe) -> tuple[str, ...]:
    """Sections that decide how fast a training is."""
    return (*by_name()[cfg.bench.training].reads, "platform") if cfg.bench.training in MEASURED else ()


def stage(cfg: Recipe) -> str:
    """Folder of a measurement that is not given one."""
    return f"bench-{cfg.bench.training}" if cfg.bench.training else "bench"


def plan(cfg: Recipe) -> Plan:
    """Validate the training as its own recipe does. Raises UserError naming the key."""
    name = training(cfg)
    if name == "distill" and cfg.teacher.mode is TeacherMode.record:
        raise UserError("bench.training=distill: teacher.mode=record trains nothing", "expected live or cached")
    made, whole = by_name()[name].planned(compose(words(cfg))), planned(cfg)
    own = {"disk", "data"} if invents_text(cfg) else {"disk"}  # of the steps that are run
    made.missing = [one for one in made.missing if one.kind == "disk"] + [one for one in whole.missing if one.kind not in own]
    said = figures(cfg, whole)
    rows = [("steps", f"{section(cfg).max_steps:,}"), ("hours", f"{said.hours:,.4g}"), ("memory", gib(said.bytes))]
    made.title = f"time {steps(cfg)} steps: {made.title}"
    made.tables.append(Table(f"The whole {name}, as planned", rows))
    return made


def training(cfg: Recipe) -> str:
    """Name of the training. Raises UserError: another than those that can be measured."""
    name = cfg.bench.training
    if name not in MEASURED:
        raise UserError(f"bench.training={name}: expected {', '.join(MEASURED)}, or null, where decoding is timed")
    return name


def planned(cfg: Recipe) -> Plan:
    """Of the whole training."""
    return by_name()[training(cfg)].planned(compose(_handed_on(cfg)))


def figures(cfg: Recipe, whole: Plan) -> Figures:
    """What the plan of the whole training says."""
    hours, memory = whole.cost.hours, whole.cost.bytes
    if hours is None or memory is None:
        raise ValueError(f"{whole.title}: a plan without hours or memory")
    if whole.seconds is not None:  # on a CPU
        return Figures((whole.seconds - pace.START) / 3600, memory, None)
    return Figures(hours, memory, cfg.plan.mfu)


def section(cfg: Recipe) -> TrainConfig:
    """The training's own part of the configuration."""
    return getattr(cfg, training(cfg))


def steps(cfg: Recipe) -> int:
    """Steps that are run; the first `bench.warmup` of them do not count."""
    return cfg.bench.warmup + cfg.bench.repetitions


def folder(cfg: Recipe) -> Path:
    """Of the measurement; below it the steps have a run of their own, from which `paths.find` sees what the run has."""
    return paths.run_root(cfg) / (cfg.run.stage or stage(cfg))


def invents_text(cfg: Recipe) -> bool:
    """Whether random tokens are trained on: no text is named, and a step takes as long on any."""
    return cfg.bench.training in ON_TEXT and not section(cfg).data


def words(cfg: Recipe) -> list[str]:
    """Overrides of the steps that are run: those of the whole training, and a short schedule."""
    name, count = training(cfg), steps(cfg)
    schedule = {
        "max_steps": count,
        "warmup_steps": 0,
        "validate_every": count,
        "checkpoint_every": count,
        "checkpoint_minutes": None,
        "keep_checkpoints": 1,
        "keep_best": False,
        "log_every": 1,
    }
    short = [override(f"{name}.{key}", value) for key, value in schedule.items()]
    if name in ON_TEXT:
        short.append("data.heldout_samples=1")  # rounded up to a batch
    if invents_text(cfg):
        short += [override(f"data.{key}", [tokens(cfg)]) for key in ("train", "heldout")]
    return [*_handed_on(cfg), *short, override("run.name", f"{cfg.run.name}/{folder(cfg).name}/run")]


def tokens(cfg: Recipe) -> Path:
    """Prefix of the random tokens."""
    return folder(cfg).absolute() / "tokens"


def _handed_on(cfg: Recipe) -> list[str]:
    """This command's overrides, but for those of the measurement, and the experiment's layout of the stage."""
    typed = [word for word in cfg.run.typed if key_of(word) not in OF_THE_MEASUREMENT]
    typed = [word for word in typed if not key_of(word).startswith("bench.")]
    return [*typed, *(word for word in layout(cfg, training(cfg)) if key_of(word) not in map(key_of, typed))]
