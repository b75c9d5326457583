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

from nemo_plugins.configs.schema import DistillConfig, Kind, PlatformConfig, Recompute
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import checks, memory, training_plan
from nemo_plugins.planning.devices import Device
from nemo_plugins.planning.plan import Plan
from nemo_plugins.runs.errors import UserError

NODE_GPUS = 8
NODE_BANDWIDTH = 400e9  # bytes a second out of a node: DGX H100's eight adapters of 400 Gbit/s (NVIDIA DGX H100 data sheet)
SIZES = (1, 2, 4, 8)
STAGES = (1, 2, 4, 8, 16)
SPARE = 1.2  # the memory's formulas are good to a fifth
BATCH_SLACK = 0.05  # of the global batch, that it may be off so that the copies share it evenly; own choice
BYTES_A_STEP = 4 + 2  # of each parameter: fp32 gradients are reduced and scattered, bf16 weights gathered


@dataclass(frozen=True)
class Layout:
    """A training on so many GPUs; `network` is bytes a second out of a node.

    `student` is what learns; no `teacher`: it learns alone.
    """

    student: Architecture
    teacher: Architecture | None
    train: DistillConfig
    platform: PlatformConfig
    gpu: Device
    mfu: float
    network: float = NODE_BANDWIDTH

    @property
    def gpus(self) -> int:
        return self.platform.devices * self.platform.nodes

    @property
    def copies(self) -> int:
        return memory.data_parallel(self.platform)

    @property
    def micro_batches(self) -> int:
        """That each copy of the model works through in a step."""
        return self.train.global_batch_size // (self.copies * self.train.micro_batch_size)

    @property
    def memory(self) -> memory.Memory:
        return memory.training(self.student, self.train, self.platform, 2, self.teacher)

    @property
    def fits(self) -> bool:
        """Whether the memory does, and a fifth more than the formulas say."""
        return self.memory.total * SPARE <= self.gpu.memory_bytes

    @property
    def bubble(self) -> float:
        """What the pipeline's filling and emptying add to a step, as a share of it."""
        return (self.platform.pipeline_parallel - 1) / self.micro_batches

    @property
    def recomputed(self) -> float:
        """What full recomputation adds to a step's arithmetic, as a share of it."""
        if self.platform.recompute is not Recompute.full:
            return 0.0
        forward = self.student.flops_per_token(self.train.seq_length)
        return forward / training_plan.flops_per_token(self.train, self.student, self.teacher)

    @property
    def step_tokens(self) -> int:
        return self.train.global_batch_size * self.train.seq_length

    @property
    def computing(self) -> float:
        """Seconds of a step's arithmetic."""
        flops = training_plan.flops_per_token(self.train, self.student, self.teacher) * self.step_tokens
        return flops / (self.gpus * self.gpu.flops_per_second * self.mfu)

    @property
    def backward(self) -> float:
        """Seconds of it that the student's backward pass takes: twice its forward pass."""
        forward = self.student.flops_per_token(self.train.seq_length)
        return self.computing * 2 * forward / training_plan.flops_per_token(self.train, self.student, self.teacher)

    @property
    def exchanged(self) -> float:
        """Bytes that a GPU sends in a step so that the copies agree: a ring's, of its own share of the parameters."""
        ranks = self.copies * self.platform.context_parallel
        share = self.student.parameters() / (self.platform.tensor_parallel * self.platform.pipeline_parallel)
        return share * BYTES_A_STEP * (ranks - 1) / ranks

    @property
    def exchanging(self) -> float:
        """Seconds that it takes; Megatron does it behind the backward pass, and what is longer is waited for."""
        return NODE_GPUS * self.exchanged / self.network

    @property
    def hiding_bandwidth(self) -> float:
        """Bytes a second out of a node at which nothing is waited for."""
        return NODE_GPUS * self.exchanged / self.backward

    @property
    def step_seconds(self) -> float:
        waited = max(0.0, self.exchanging - self.backward)
        return self.computing * (1 + self.recomputed) * (1 + self.bubble) + waited

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


def choose(
    student: Architecture,
    teacher: Architecture | None,
    nodes: int,
    samples: int,
    train: DistillConfig,
    gpu: Device,
    mfu: float,
    network: float = NODE_BANDWIDTH,
    contexts: tuple[int, ...] = SIZES,
) -> Layout | None:
    """The layout with the most tokens a second among those that fit; of equals the one that splits a model least.

    Args:
        samples: of the whole training; `max_steps` follows from them and the batch.
        train: `global_batch_size` is what to come close to (`BATCH_SLACK`).
        contexts: context-parallel sizes to choose from.
    Returns: None where nothing fits.
    """
    found = _layouts(student, teacher, nodes, samples, train, gpu, mfu, network, contexts)
    return min((made for made in found if made.fits), key=_rank, default=None)


def _rank(made: Layout) -> tuple:
    platform = made.platform
    parts = platform.tensor_parallel * platform.pipeline_parallel * platform.context_parallel
    return -round(made.tokens_per_second), parts, platform.context_parallel, platform.pipeline_parallel


def _layouts(student, teacher, nodes, samples, train, gpu, mfu, network, contexts) -> Iterator[Layout]:
    models = {"student": student} | ({"teacher": teacher} if teacher else {})
    for recompute, tensor, context, stages in product((Recompute.none, Recompute.full), SIZES, contexts, STAGES):
        platform = PlatformConfig(
            kind=Kind.gpu,
            devices=NODE_GPUS,
            nodes=nodes,
            tensor_parallel=tensor,
            context_parallel=context,
            pipeline_parallel=stages,
            recompute=recompute,
            gpu_memory_gib=gpu.memory_gib,
        )
        if not _divides(platform, models):
            continue
        unit = memory.data_parallel(platform) * train.micro_batch_size
        batch = max(1, round(train.global_batch_size / unit)) * unit
        if abs(batch / train.global_batch_size - 1) > BATCH_SLACK:
            continue
        steps = dataclasses.replace(train, global_batch_size=batch, max_steps=ceil(samples / batch))
        yield Layout(student, teacher, steps, platform, gpu, mfu, network)


def _divides(platform: PlatformConfig, models: dict[str, Architecture]) -> bool:
    """Whether the parallel sizes divide the models and the GPUs: what every stage checks."""
    try:
        checks.platform(Plan(""), platform, models)
    except UserError:
        return False
    return True
