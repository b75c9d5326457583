"""Tables that several plans share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from nemo_plugins.configs.schema import BudgetConfig, PlatformConfig
from nemo_plugins.models.architecture import SIZES, Architecture
from nemo_plugins.planning import budget as budgets
from nemo_plugins.planning.memory import Memory, data_parallel
from nemo_plugins.planning.plan import Plan, Table, count, gib
from nemo_plugins.platforms import arithmetic


def sizes(teacher: Architecture, student: Architecture | None, names: tuple[str, str] = ("teacher", "student")) -> Table:
    """Sizes and both parameter counts, side by side."""
    if student is None:
        totals = [
            ("parameters", count(teacher.parameters())),
            ("one embedding matrix", count(teacher.parameters("paper"))),
        ]
        return Table("Sizes", [*((key, getattr(teacher, key)) for key in SIZES), *totals], ["", names[0]])
    rows = []
    for key in SIZES:
        old, new = getattr(teacher, key), getattr(student, key)
        rows.append((key, f"{old:,}", f"{new:,}", "" if old == new else f"{new - old:+,}"))
    counts: list[tuple[str, Literal["all", "paper"]]] = [("parameters", "all"), ("one embedding matrix", "paper")]
    for label, kind in counts:
        old, new = teacher.parameters(kind), student.parameters(kind)
        rows.append((label, count(old), count(new), f"{new / old - 1:+.2%}"))
    return Table("Sizes", rows, ["", *names, "change"])


def budget(plan: Plan, asked: BudgetConfig, teacher: Architecture, student: Architecture) -> list[Table]:
    """What a budget allows and what teacher and student cost; no table where none is given."""
    if not budgets.is_given(asked):
        return []
    if asked.device and asked.context > teacher.context_length:
        plan.warnings.append(
            f"prune.budget.context={asked.context}: the model's own context is {teacher.context_length}; the cache is "
            "counted as asked"
        )
    rows = [
        (limit.what, *(limit.text(number) for number in (limit.allowed, limit.cost(teacher), limit.cost(student))))
        for limit in budgets.limits(asked)
    ]
    return [Table("Budget", rows, ["", "allowed", "teacher", "student"])]


def memory(need: Memory, platform: PlatformConfig, on_gpu: bool, title: str = "") -> Table:
    """A process's memory by what it is for, and what there is."""
    rows = [("precision", arithmetic.reason(platform, on_gpu))]
    rows += [(key, gib(value)) for key, value in vars(need).items() if value]
    rows.append(("total", gib(need.total)))
    if on_gpu:
        rows.append(("a GPU has", gib(platform.gpu_memory_bytes)))
    layout = f"tensor {platform.tensor_parallel}, pipeline {platform.pipeline_parallel}, context {platform.context_parallel}"
    title = title or f"Memory of one {'GPU' if on_gpu else 'process'}"
    return Table(f"{title}, estimated ({layout}, data {data_parallel(platform)})", rows)


def too_large(plan: Plan, need: Memory, platform: PlatformConfig) -> None:
    """A warning where a GPU has less."""
    most = platform.gpu_memory_bytes
    if need.total > most:
        plan.warnings.append(
            f"about {gib(need.total)} on each GPU, {gib(most)} are there (platform.gpu, platform.gpu_memory_gib): "
            "raise platform.tensor_parallel or platform.pipeline_parallel, or lower the micro batch or the sequence"
        )


def writes(folder: Path, files: Mapping[str, float]) -> Table:
    """What the stage would write."""
    return Table("Would write", [(str(folder / name), gib(size)) for name, size in files.items()])
