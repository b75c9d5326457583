"""How weights are stored and served. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    """How weights are stored for deployment; the GGUF kinds are llama.cpp's."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp8 = "fp8"
    nvfp4 = "nvfp4"
    q8_0 = "q8_0"
    q6_k = "q6_k"
    q5_k_m = "q5_k_m"
    q4_k_m = "q4_k_m"


@dataclass
class PlanConfig:
    """Assumptions of `recipes/plan.py`."""

    gpu: str = "h100"  # a file of conf/device/: what trains
    gpus: int | None = None  # default: platform.devices x platform.nodes
    mfu: float = 0.4  # model FLOPs utilisation; own choice: what dense 7 B models reach on H100 with Megatron
    device: str = "rtx4090"  # a file of conf/device/: what serves
    format: Format = Format.bf16
    context: int = 8192  # tokens of one stream
