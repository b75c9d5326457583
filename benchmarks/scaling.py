"""The tables of docs/scaling.md: layouts, hours, traffic and checkpoints for teachers of 11, 32 and 70 B on 2 to 128 nodes.

    python benchmarks/scaling.py [--nodes 2,8,32,128] [--seq-length 8192] [--mfu 0.4] [--storage-gb-s 10] [--node-gb-s 400]

Nodes are 8 x H100 SXM 80 GB. Seconds, no torch: all of it is the planner's arithmetic, and no GPU has seen any of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nemo_plugins.configs.schema import DistillConfig, Kind, PlanConfig, PlatformConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import devices, intervals, layout
from nemo_plugins.planning.estimate import PAPER
from nemo_plugins.planning.layout import Layout

# A student keeps 4/5 of its teacher's layers and 11/14 of the FFN, as the paper's does, rounded to what pipelines divide.
MODELS = {
    "11 B": (PAPER.teacher, PAPER.student),
    # Qwen2.5-32B (its config.json)
    "32 B": (
        Architecture(64, 5120, 27648, 40, 8, 128, 152064, family="qwen2"),
        Architecture(52, 5120, 21760, 40, 8, 128, 152064, family="qwen2"),
    ),
    # Llama-3.1-70B (its config.json)
    "70 B": (Architecture(80, 8192, 28672, 64, 8, 128, 128256), Architecture(64, 8192, 22528, 64, 8, 128, 128256)),
}
SFT_LENGTH, SFT_BATCH = 32768, 64  # paper
HALF_HOUR = 1800.0  # distill.checkpoint_minutes

Found = dict[tuple[str, int], Layout | None]


def arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=lambda text: [int(each) for each in text.split(",")], default=[2, 8, 32, 128])
    parser.add_argument("--seq-length", type=int, default=8192, help="default: NVIDIA's guide; the paper does not say")
    parser.add_argument("--mfu", type=float, default=PlanConfig.mfu)
    parser.add_argument(
        "--storage-gb-s", type=float, default=PlanConfig.storage_gb_s, help="of the shared file system, for all nodes together"
    )
    parser.add_argument("--node-gb-s", type=float, default=400, help="out of a node; DGX H100: 8 x 400 Gbit/s")
    return parser.parse_args(arguments)


def main() -> None:
    print("\n\n".join(tables(arguments())))


def tables(given: argparse.Namespace) -> list[str]:
    """Every table as Markdown, with its heading."""
    found, alone = distillations(given), alignments(given)
    return [
        "Models\n\n" + models(),
        f"Distillation of {PAPER.samples:,} samples of {given.seq_length:,} tokens at MFU {given.mfu:g}\n\n" + layouts(found),
        f"Exchange between the copies of the student in each step, nodes of {given.node_gb_s:g} GB/s\n\n" + exchange(found),
        f"SFT of the student, {SFT_BATCH} sequences of {SFT_LENGTH:,} tokens a step\n\n" + layouts(alone, days=False),
        f"Checkpoints on a shared file system of {given.storage_gb_s:g} GB/s\n\n" + storage(found, given),
        f"Failures at Llama 3's rate, one in {PlanConfig.gpu_hours_between_failures:,.0f} GPU-hours\n\n"
        + checkpoints(found, given),
    ]


def distillations(given: argparse.Namespace) -> Found:
    """The paper's samples for each teacher and number of nodes. No context parallelism: distillation never ran with it."""
    schedule = train(given.seq_length, PAPER.samples // PAPER.steps)
    return {
        (name, nodes): layout.choose(job(given, student, teacher, nodes, schedule), PAPER.samples)
        for name, (teacher, student) in MODELS.items()
        for nodes in given.nodes
    }


def alignments(given: argparse.Namespace) -> Found:
    return {
        (name, nodes): layout.choose(job(given, student, None, nodes, train(SFT_LENGTH, SFT_BATCH)), 1, layout.SIZES)
        for name, (_, student) in MODELS.items()
        for nodes in given.nodes
    }


def job(
    given: argparse.Namespace, student: Architecture, teacher: Architecture | None, nodes: int, schedule: DistillConfig
) -> Layout:
    """The GPUs, before anything is split."""
    gpu = devices.load("h100", "gpu")
    platform = PlatformConfig(kind=Kind.gpu, devices=gpu.per_node, nodes=nodes, gpu_memory_gib=gpu.memory_gib)
    return Layout(student, teacher, schedule, platform, gpu, given.mfu, given.node_gb_s * 1e9)


def train(seq_length: int, batch: int) -> DistillConfig:
    """A schedule of micro-batches of one; what it does not say, no table here reads."""
    return DistillConfig(
        max_steps=1, seq_length=seq_length, micro_batch_size=1, global_batch_size=batch, lr=1e-4, min_lr=0, warmup_steps=0,
        checkpoint_every=1, validate_every=1,
    )  # fmt: skip


def models() -> str:
    rows = []
    for name, pair in MODELS.items():
        for called, model in zip(("teacher", "student"), pair, strict=True):
            sizes = (model.num_layers, model.hidden_size, model.ffn_hidden_size, model.num_attention_heads, model.vocab_size)
            rows.append((name, called, *(f"{size:,}" for size in sizes), f"{model.parameters() / 1e9:.2f} B"))
    return markdown(("", "", "layers", "hidden", "FFN", "heads", "vocabulary", "parameters"), rows)


def layouts(found: Found, days: bool = True) -> str:
    rows = []
    for (name, nodes), made in found.items():
        if made is None:
            rows.append((name, nodes, "none fits"))
            continue
        platform = made.platform
        parts = (platform.tensor_parallel, platform.pipeline_parallel, platform.context_parallel, made.copies)
        rows.append(
            (
                name,
                nodes,
                " · ".join(map(str, parts)),
                platform.recompute.value,
                f"{made.memory.total / 2**30:.1f}",
                f"{made.train.global_batch_size:,}",
                f"{made.micro_batches:,}",
                f"{made.bubble:.1%}",
                f"{made.step_seconds:.3g}",
                f"{made.tokens_per_second:,.0f}",
                *([f"{made.days:.2f}"] if days else []),
            )
        )
    columns = ("teacher", "nodes", "TP · PP · CP · DP", "recompute", "GiB of 80", "batch", "micro-batches a copy", "bubble",
               "s a step", "tokens/s", *(["days"] if days else []))  # fmt: skip
    return markdown(columns, rows)


def exchange(found: Found) -> str:
    """Gradients and weights that the copies of the student send each other, beside the backward pass that hides them."""
    rows = [
        (
            name,
            nodes,
            f"{made.exchanged / 1e9:.1f}",
            f"{made.exchanging:.2f}",
            f"{made.backward:.2f}",
            f"{made.hiding_bandwidth / 1e9:.1f}",
        )
        for (name, nodes), made in found.items()
        if made
    ]
    return markdown(("teacher", "nodes", "GB a GPU", "s", "backward pass, s", "GB/s of a node that hide it"), rows)


def storage(found: Found, given: argparse.Namespace) -> str:
    """Of each teacher: the same on any number of nodes."""
    rows = []
    for name in MODELS:
        made = next((made for (which, _), made in found.items() if which == name and made), None)
        if made is not None:
            size, read = made.checkpoint_bytes / 1e9, made.start_bytes / 1e9
            kept = (made.train.keep_checkpoints + made.train.keep_best + 1) * size  # one more while the newest is written
            wrote, reading = (f"{each / given.storage_gb_s:.1f}" for each in (size, read))
            rows.append((name, f"{size:.1f}", wrote, f"{kept:,.0f}", f"{read:.1f}", reading))
    return markdown(("teacher", "a checkpoint, GB", "written in, s", "on disk at most, GB", "a start reads, GB", "in, s"), rows)


def checkpoints(found: Found, given: argparse.Namespace) -> str:
    """What Young and Daly say for each layout, at Llama 3's rate of failures."""
    rows = []
    for (name, nodes), made in found.items():
        if made is None:
            continue
        seconds = made.checkpoint_bytes / given.storage_gb_s / 1e9
        mtbf = intervals.job_mtbf(PlanConfig.gpu_hours_between_failures, made.gpus)
        best = intervals.daly(seconds, mtbf)
        lost = (intervals.lost_share(each, seconds, mtbf) for each in (best, HALF_HOUR))
        traffic = (86400 / (each + seconds) * made.checkpoint_bytes / 1e12 for each in (best, HALF_HOUR))
        rows.append(
            (
                name,
                nodes,
                f"{mtbf / 3600:,.0f}",
                f"{made.days * 86400 / mtbf:.2f}",
                f"{intervals.young(seconds, mtbf) / 60:.0f}",
                f"{best / 60:.0f}",
                f"{intervals.steps_between(made.step_seconds, seconds, mtbf, made.train.max_steps):,}",
                *(f"{each:.2%}" for each in lost),
                *(f"{each:.1f}" for each in traffic),
            )
        )
    columns = ("teacher", "nodes", "hours between failures", "in the run", "Young, min", "Daly, min", "Daly, steps",
               "lost at Daly's", "lost at 30 min", "TB a day at Daly's", "TB a day at 30 min")  # fmt: skip
    return markdown(columns, rows)


def markdown(columns: Iterable[str], rows: Iterable[Iterable]) -> str:
    """A table; all columns but the first to the right."""
    columns = list(columns)
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    lines += [[*map(str, row)] for row in rows]
    return "\n".join(f"| {' | '.join(line + [''] * (len(columns) - len(line)))} |" for line in lines)


if __name__ == "__main__":
    main()
