"""How a training is spread over nodes: the parallel sizes that fit the memory and lose least, and what the network carries.

The step's time is the planner's (arithmetic over the GPUs' peak at an assumed MFU), longer by what a layout adds: the
pipeline's bubble, (p − 1)/m of a step for p stages and m micro-batches (Narayanan et al., arXiv 2104.04473), one more forward
pass of the student under full recomputation, and what the network does not carry behind the backward pass. What tensor and
context parallelism cost is part of the MFU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil

from nemo_plugins.configs.schema import PlatformConfig, Recipe, Recompute, TrainConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, devices, memory, work
from nemo_plugins.planning.devices import Device
from nemo_plugins.planning.plan import Plan
from nemo_plugins.planning.rollouts import Rollouts
from nemo_plugins.runs.command_line import LAYOUT
from nemo_plugins.runs.errors import UserError

NODE_BANDWIDTH = 400e9  # bytes a second out of a node: DGX H100's eight adapters of 400 Gbit/s (NVIDIA DGX H100 data sheet)
SIZES = (1, 2, 4, 8)
STAGES = (1, 2, 4, 8, 16)
SPARE = 1.2  # the memory's formulas are good to a fifth
BATCH_SLACK = 0.05  # of the global batch, that it may be off so that the copies share it evenly; own choice
BYTES_A_STEP = 4 + 2  # of each parameter: fp32 gradients are reduced and scattered, bf16 weights gathered


@dataclass(frozen=True)
class Layout:
    """A training on so many GPUs.

    Attributes:
        student: what learns.
        teacher: None: it learns alone.
        network: bytes a second out of a node.
        sharded: whether the copies of the model share out the optimizer's state.
        passes: forward passes of the student besides those of training: of a reference, of scoring.
        rollouts: what is drawn before an update, if anything.
    """

    student: Architecture
    teacher: Architecture | None
    train: TrainConfig
    platform: PlatformConfig
    gpu: Device
    mfu: float
    network: float = NODE_BANDWIDTH
    sharded: bool = True
    passes: int = 0
    rollouts: Rollouts | None = None

    @property
    def gpus(self) -> int:
        return self.platform.devices * self.platform.nodes

    @property
    def copies(self) -> int:
        return memory.data_parallel(self.platform)

    @property
    def name(self) -> str:
        """`TP4 · DP4`: what is split, and the copies of the model."""
        sizes = (("TP", self.platform.tensor_parallel), ("PP", self.platform.pipeline_parallel),
                 ("CP", self.platform.context_parallel), ("DP", self.copies))  # fmt: skip
        parts = [f"{short}{size}" for short, size in sizes if size > 1]
        return " · ".join([*parts, *(["recompute"] if self.platform.recompute is Recompute.full else [])])

    @property
    def overrides(self) -> list[str]:
        """Of the layout, those that are not the defaults."""
        plain = PlatformConfig()
        return [
            f"platform.{key}={getattr(self.platform, key)}"
            for key in LAYOUT
            if getattr(self.platform, key) != getattr(plain, key)
        ]

    @property
    def micro_batches(self) -> int:
        """That each copy of the model works through in a step."""
        return self.train.global_batch_size // (self.copies * self.train.micro_batch_size)

    @property
    def memory(self) -> memory.Memory:
        """Of a training step."""
        return memory.training(self.student, self.train, self.platform, 2, self.teacher, self.sharded)

    @property
    def bytes(self) -> float:
        """On each GPU, at most: in a step, or while completions are drawn."""
        step = self.memory
        drawing = self.rollouts.memory(self.student, self.platform, step).total if self.rollouts else 0.0
        return max(step.total, drawing)

    @property
    def room(self) -> float:
        """Bytes that each GPU has."""
        return (self.platform.gpu_memory_gib or self.gpu.memory_gib) * 2**30

    @property
    def fits(self) -> bool:
        """Whether the memory does, and a fifth more than the formulas say."""
        return self.bytes * SPARE <= self.room

    @property
    def bubble(self) -> float:
        """What the pipeline's filling and emptying add to a step, as a share of it."""
        return (self.platform.pipeline_parallel - 1) / self.micro_batches

    @property
    def flops_per_token(self) -> int:
        """Of a step, without what is computed again."""
        return work.flops_per_token(self.train, self.student, self.teacher) + self.passes * self.forward

    @property
    def forward(self) -> int:
        """FLOP a token of the student's forward pass."""
        return self.student.flops_per_token(self.train.seq_length)

    @property
    def recomputed(self) -> float:
        """What full recomputation adds to a step's arithmetic, as a share of it."""
        return self.forward / self.flops_per_token if self.platform.recompute is Recompute.full else 0.0

    @property
    def step_tokens(self) -> int:
        return self.train.global_batch_size * self.train.seq_length

    @property
    def computing(self) -> float:
        """Seconds of a step's arithmetic."""
        return self.flops_per_token * self.step_tokens / (self.gpus * self.gpu.flops_per_second * self.mfu)

    @property
    def backward(self) -> float:
        """Seconds of it that the student's backward pass takes: twice its forward pass."""
        return self.computing * 2 * self.forward / self.flops_per_token

    @property
    def exchanged(self) -> float:
        """Bytes that a GPU sends in a step so that the copies agree: a ring's, of its own share of the parameters."""
        ranks = self.copies * self.platform.context_parallel
        share = self.student.parameters() / (self.platform.tensor_parallel * self.platform.pipeline_parallel)
        return share * BYTES_A_STEP * (ranks - 1) / ranks

    @property
    def exchanging(self) -> float:
        """Seconds that it takes; Megatron does it behind the backward pass, and what is longer is waited for."""
        return self.platform.devices * self.exchanged / self.network

    @property
    def hiding_bandwidth(self) -> float:
        """Bytes a second out of a node at which nothing is waited for."""
        return self.platform.devices * self.exchanged / self.backward

    @property
    def drawing(self) -> float:
        """Seconds of a step in which completions are drawn."""
        return self.rollouts.seconds(self.student, self.platform, self.gpu) / self.rollouts.updates if self.rollouts else 0.0

    @property
    def step_seconds(self) -> float:
        waited = max(0.0, self.exchanging - self.backward)
        return self.computing * (1 + self.recomputed) * (1 + self.bubble) + waited + self.drawing

    @property
    def tokens_per_second(self) -> float:
        return self.step_tokens / self.step_seconds

    @property
    def days(self) -> float:
        return self.train.max_steps * self.step_seconds / 86400

    @property
    def checkpoint_bytes(self) -> int:
        """Of the student with its optimizer's state; the teacher is not in it."""
        return memory.checkpoint(self.student, 2, optimizer=True)

    @property
    def start_bytes(self) -> int:
        """What a start reads: the teacher's weights and a checkpoint, each once (NeMo's ranks share what they read)."""
        teacher = memory.checkpoint(self.teacher, 2, optimizer=False) if self.teacher else 0
        return teacher + self.checkpoint_bytes


def of(
    cfg: Recipe,
    train: TrainConfig,
    student: Architecture,
    teacher: Architecture | None = None,
    passes: int = 0,
    rollouts: Rollouts | None = None,
) -> Layout:
    """The layout that a configuration asks for, on the GPUs that it is planned for."""
    return Layout(
        student,
        teacher,
        train,
        cfg.platform,
        devices.load(cfg.plan.gpu, "plan.gpu"),
        cfg.plan.mfu,
        sharded=checks.sharded(cfg),
        passes=passes,
        rollouts=rollouts,
    )


def choose(job: Layout, samples: int | None = None, contexts: tuple[int, ...] = (1,)) -> Layout | None:
    """The layout of a job's GPUs with the most tokens a second among those that fit; of equals the one that splits least.

    Args:
        job: whose parallel sizes and recomputation are another's to choose; the rest stays.
        samples: of the whole training; `max_steps` follows from them and the batch, which may then be a little off
            (`BATCH_SLACK`). None: batch and steps stay.
        contexts: context-parallel sizes to choose from.
    Returns: None where nothing fits.
    """
    return min((made for made in _layouts(job, samples, contexts) if made.fits), key=_rank, default=None)


def _rank(made: Layout) -> tuple:
    platform = made.platform
    parts = platform.tensor_parallel * platform.pipeline_parallel * platform.context_parallel
    return -round(made.tokens_per_second), parts, platform.context_parallel, platform.pipeline_parallel


def _layouts(job: Layout, samples: int | None, contexts: tuple[int, ...]) -> Iterator[Layout]:
    """Tensor parallelism stays inside a node."""
    models = {"student": job.student} | ({"teacher": job.teacher} if job.teacher else {})
    tensors = [size for size in SIZES if size <= job.platform.devices]
    for recompute, tensor, context, stages in product((Recompute.none, Recompute.full), tensors, contexts, STAGES):
        platform = dataclasses.replace(
            job.platform,
            tensor_parallel=tensor,
            pipeline_parallel=stages,
            context_parallel=context,
            recompute=recompute,
        )
        if not _divides(platform, models):
            continue
        unit = memory.data_parallel(platform) * job.train.micro_batch_size
        batch = max(1, round(job.train.global_batch_size / unit)) * unit
        if abs(batch / job.train.global_batch_size - 1) > (0 if samples is None else BATCH_SLACK):
            continue
        steps = job.train.max_steps if samples is None else ceil(samples / batch)
        train = dataclasses.replace(job.train, global_batch_size=batch, max_steps=steps)
        yield dataclasses.replace(job, train=train, platform=platform)


def _divides(platform: PlatformConfig, models: dict[str, Architecture]) -> bool:
    """Whether the parallel sizes divide the models and the GPUs: what every stage checks."""
    try:
        checks.platform(Plan(""), platform, models)
    except UserError:
        return False
    return True
