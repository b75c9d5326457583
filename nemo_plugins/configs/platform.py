"""What the code runs on. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What the code runs on; `auto` takes the GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Precision(StrEnum):
    """Arithmetic of pruning and training; `bf16` keeps fp32 master weights.

    `auto` is bf16 on GPUs and on CPUs that multiply it natively, else fp32.
    """

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Recompute(StrEnum):
    """Which activations are computed again in the backward pass instead of kept."""

    none = "none"
    selective = "selective"  # the attention's
    full = "full"  # all but each layer's input


@dataclass
class PlatformConfig:
    kind: Kind = Kind.auto
    devices: int = 1  # processes on each node
    nodes: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    context_parallel: int = 1
    precision: Precision = Precision.auto
    recompute: Recompute = Recompute.none
    # whether a model's copies share out the optimizer's state: true, false, or auto: on GPUs, and a resumed run as it began.
    # No enum: OmegaConf makes none of `true`.
    shard_optimizer: bool | str = "auto"
    gpu: str = "h100"  # a file of conf/device/: what a plan takes a GPU to be
    gpu_memory_gib: float | None = None  # of one GPU, for the plan; default: what `gpu` has
    # auto: where it is installed; a plan on a machine without a GPU counts with it where MINITRON_RUNTIME names an image, too.
    # true: a stage that trains refuses to start without it; false: torch's own layers also where it is there
    transformer_engine: bool | str = "auto"
    node_memory_gib: float = 1000.0  # of one node, for the plan
    # that a process waits for another in a collective before torch ends it; own choice: a slow disk's checkpoint, thrice
    process_group_minutes: float = 60.0
    threads: int | None = None  # CPU threads of one process; default: cores / devices

    @property
    def gpu_memory_bytes(self) -> float:
        """Of one GPU, once `runs.prepare` has resolved `gpu`."""
        if self.gpu_memory_gib is None:
            raise ValueError(f"platform.gpu_memory_gib is not resolved from platform.gpu={self.gpu}")
        return self.gpu_memory_gib * 2**30


@dataclass
class DoctorConfig:
    json: bool = False  # one line of JSON from every process instead of the tables
    deep: bool = False  # import torch, Transformer Engine and NeMo too, and compute on every GPU
