"""Tables that several plans share."""

from __future__ import annotations

from pathlib import Path

from nemo_plugins.configs.schema import PlatformConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning.memory import Memory, data_parallel
from nemo_plugins.planning.plan import Plan, Table, count, gib

SIZES = (
    "num_layers",
    "hidden_size",
    "ffn_hidden_size",
    "num_attention_heads",
    "num_query_groups",
    "head_dim",
    "vocab_size",
)


def sizes(teacher: Architecture, student: Architecture | None, names: tuple[str, str] = ("teacher", "student")) -> Table:
    """Sizes and both parameter counts, side by side."""
    if student is None:
        rows = [(key, getattr(teacher, key)) for key in SIZES]
        rows += [
            ("parameters", count(teacher.parameters())),
            ("one embedding matrix", count(teacher.parameters("paper"))),
        ]
        return Table("Sizes", rows, ["", names[0]])
    rows = []
    for key in SIZES:
        old, new = getattr(teacher, key), getattr(student, key)
        rows.append((key, f"{old:,}", f"{new:,}", "" if old == new else f"{new - old:+,}"))
    for label, kind in (("parameters", "all"), ("one embedding matrix", "paper")):
        old, new = teacher.parameters(kind), student.parameters(kind)
        rows.append((label, count(old), count(new), f"{new / old - 1:+.2%}"))
    return Table("Sizes", rows, ["", *names, "change"])


def memory(plan: Plan, need: Memory, platform: PlatformConfig, on_gpu: bool) -> Table:
    """A process's memory by what it is for; more than a GPU has becomes a warning of the plan."""
    rows = [(key, gib(value)) for key, value in vars(need).items() if value]
    rows.append(("total", gib(need.total)))
    if on_gpu and need.total > platform.gpu_memory_gib * 2**30:
        plan.warnings.append(
            f"about {gib(need.total)} on each GPU, platform.gpu_memory_gib={platform.gpu_memory_gib:g}: "
            "raise platform.tensor_parallel or platform.pipeline_parallel, or lower the micro batch or the sequence"
        )
    layout = f"tensor {platform.tensor_parallel}, pipeline {platform.pipeline_parallel}, context {platform.context_parallel}"
    return Table(f"Memory of one {'GPU' if on_gpu else 'process'}, estimated ({layout}, data {data_parallel(platform)})", rows)


def writes(folder: Path, files: dict[str, float]) -> Table:
    """What the stage would write."""
    return Table("Would write", [(str(folder / name), gib(size)) for name, size in files.items()])
