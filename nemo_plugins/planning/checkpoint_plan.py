"""How often a training on GPUs should write checkpoints, from what one costs and how often such a job fails."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from nemo_plugins.configs.schema import PlanConfig, TrainConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import devices, intervals, memory, work
from nemo_plugins.planning.budget import gigabytes
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs.errors import UserError


@dataclass(frozen=True)
class Advice:
    """Seconds and bytes; `configured` and `recommended` are steps between checkpoints."""

    gpus: int
    checkpoint_bytes: int
    checkpoint_seconds: float
    step_seconds: float
    mtbf_seconds: float
    configured: int
    recommended: int

    @property
    def stopping(self) -> float:
        """Seconds that a signal may take to act: a checkpoint under way, the next step, and that one's checkpoint."""
        return self.step_seconds + 2 * self.checkpoint_seconds

    def lost(self, every: int) -> float:
        """Share of the time that goes into checkpoints and steps done again."""
        return intervals.lost_share(every * self.step_seconds, self.checkpoint_seconds, self.mtbf_seconds)


def add(
    plan: Plan, asked: PlanConfig, train: TrainConfig, key: str, gpus: int, width: int, student: Architecture,
    teacher: Architecture | None,
) -> None:  # fmt: skip
    """Add the advice to a plan, and a warning where the recipe stops too late before the job's end.

    Args:
        key: section of the training, e.g. `distill`.
        width: bytes of a working weight.
    Raises:
        UserError: an assumption that cannot be.
    """
    advice = advise(asked, train, gpus, width, student, teacher)
    plan.tables.append(table(advice, asked, key))
    if advice.stopping > 60 * train.stop_minutes:
        plan.warnings.append(
            f"{key}.stop_minutes={train.stop_minutes:g}: to finish a step and write a checkpoint may take about "
            f"{_duration(advice.stopping)}; before the end of a Slurm job it would be killed first, and so where a preemption "
            f"gives no more grace: expected e.g. {key}.stop_minutes={ceil(1.2 * advice.stopping / 60)}"
        )


def advise(
    asked: PlanConfig, train: TrainConfig, gpus: int, width: int, student: Architecture, teacher: Architecture | None
) -> Advice:
    """For the whole job, with `plan`'s assumptions; see `add`."""
    for key in ("storage_gb_s", "gpu_hours_between_failures"):
        if not getattr(asked, key) > 0:
            raise UserError(f"plan.{key}={getattr(asked, key):g}: expected more than 0")
    gpu = devices.load(asked.gpu, "plan.gpu")
    flops = work.flops_per_token(train, student, teacher) * train.global_batch_size * train.seq_length
    step = flops / (gpus * gpu.flops_per_second * asked.mfu)
    size = memory.checkpoint(student, width, optimizer=True)
    saving = size / asked.storage_gb_s / 1e9
    mtbf = intervals.job_mtbf(asked.gpu_hours_between_failures, gpus)
    return Advice(
        gpus,
        size,
        saving,
        step,
        mtbf,
        intervals.next_checkpoint(0, train.max_steps, step, train.checkpoint_every, train.checkpoint_minutes),
        intervals.steps_between(step, saving, mtbf, train.max_steps),
    )


def table(advice: Advice, asked: PlanConfig, key: str) -> Table:
    """The advice beside what is configured."""

    def every(steps: int) -> str:
        seconds = steps * advice.step_seconds
        return f"every {steps:,} step{'s' * (steps > 1)}, {_duration(seconds)}: {advice.lost(steps):.2%} of the time"

    return Table(
        "Checkpoints and failures, estimated",
        [
            (
                "a checkpoint",
                f"{gigabytes(advice.checkpoint_bytes)}, {_duration(advice.checkpoint_seconds)} at "
                f"plan.storage_gb_s={asked.storage_gb_s:g}",
            ),
            ("a step", f"{_duration(advice.step_seconds)} on {asked.gpu} at MFU {asked.mfu:g}"),
            (
                f"a failure on {advice.gpus:,} GPU{'s' * (advice.gpus > 1)}",
                f"every {_duration(advice.mtbf_seconds)} at "
                f"plan.gpu_hours_between_failures={asked.gpu_hours_between_failures:,.0f}",
            ),
            ("lost as configured", every(advice.configured)),
            ("lost at Daly's interval", every(advice.recommended)),
            ("", f"{key}.checkpoint_every={advice.recommended} {key}.checkpoint_minutes=null"),
        ],
        numbers=False,
    )


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
