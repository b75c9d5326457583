"""The precision of a platform, and what a CPU multiplies natively, read without torch."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from nemo_plugins.configs.platform import PlatformConfig, Precision

BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # /proc/cpuinfo of x86 (AVX-512, AMX) and of aarch64
CPUINFO = Path("/proc/cpuinfo")


@cache
def multiplies_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this CPU has bf16 products of its own; one that has none computes them slower than fp32."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    flags = [set(line.partition(":")[2].split()) for line in lines if line.partition(":")[0].strip() in ("flags", "Features")]
    return bool(flags) and all(BF16_FLAGS & each for each in flags)


@cache
def products(size: int = 1024, tries: int = 2) -> float:
    """FLOP a second of processor time in numpy's product of two fp32 matrices, the fastest of some; takes 0.1 s of it.

    Processor time, so that what else runs here does not count.
    """
    import numpy as np

    matrix = np.ones((size, size), np.float32)
    took = []
    for _ in range(1 + tries):  # the first one starts the threads
        began = time.process_time()
        matrix @ matrix
        took.append(time.process_time() - began)
    return 2 * size**3 / min(took[1:])


def precision(platform: PlatformConfig, on_gpu: bool) -> Precision:
    """What `platform.precision` comes to."""
    if platform.precision is not Precision.auto:
        return platform.precision
    return Precision.bf16 if on_gpu or multiplies_bf16() else Precision.fp32


def reason(platform: PlatformConfig, on_gpu: bool) -> str:
    """The precision with where it comes from, for a plan: `fp32 (platform.precision=auto: this CPU has no bf16 products)`."""
    name = precision(platform, on_gpu).value
    if platform.precision is not Precision.auto:
        return name
    because = "on GPUs" if on_gpu else f"this CPU has {'' if multiplies_bf16() else 'no '}bf16 products of its own"
    return f"{name} (platform.precision=auto: {because})"
