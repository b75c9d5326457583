"""Devices that train or serve: memory, bandwidth and arithmetic, a file of `conf/device/` each."""

from __future__ import annotations

import os
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nemo_plugins.configs.schema import PlanConfig
from nemo_plugins.configs.store import CONF, options
from nemo_plugins.runs.errors import UserError


@dataclass(frozen=True)
class Device:
    """One GPU, or one machine without.

    `memory_gib` is in units of 2^30 bytes, as memory chips are made; `bandwidth_gb_s` in 10^9 bytes a second and `peak_tflops`
    (dense bf16) in 10^12 operations a second, as the vendor states them; `usable` the share of the memory that weights and
    key-value cache may take; `per_node` how many a node has; `usd_an_hour` what one costs, None: nothing is paid by the hour.
    """

    name: str
    source: str
    memory_gib: float
    bandwidth_gb_s: float
    peak_tflops: float
    usable: float
    per_node: int
    usd_an_hour: float | None = None

    @property
    def memory_bytes(self) -> float:
        return self.memory_gib * 2**30

    @property
    def usable_bytes(self) -> float:
        return self.usable * self.memory_bytes

    @property
    def bytes_per_second(self) -> float:
        return self.bandwidth_gb_s * 1e9

    @property
    def flops_per_second(self) -> float:
        return self.peak_tflops * 1e12


def load(name: str, key: str) -> Device:
    """The device of `conf/device/<name>.yaml`.

    Args:
        key: the configuration key that named it, for the message.
    Raises:
        UserError: there is no such file, or it lacks a key or has one too many.
    """
    if name not in options("device"):
        raise UserError(
            f"{key}={name}: no such device",
            f"expected one of: {', '.join(options('device'))}",
            f"another one is a file: {CONF / 'device'}/<name>.yaml",
        )
    file = CONF / "device" / f"{name}.yaml"
    values = _read(file)
    known = {each.name for each in fields(Device)}
    differ = {each.name for each in fields(Device) if each.default is MISSING} - set(values) | set(values) - known
    if differ:
        raise UserError(
            f"{key}={name}: {file} has not just the keys of a device ({', '.join(sorted(differ))})",
            f"expected {', '.join(sorted(known))}",
        )
    numbers = {field: value for field, value in sorted(values.items()) if field not in ("name", "source")}
    wrong = [field for field, value in numbers.items() if not isinstance(value, (int, float)) or value <= 0]
    if wrong or values["usable"] > 1:
        raise UserError(f"{key}={name}: {file}: {', '.join(wrong) or 'usable'}", "expected positive numbers, usable at most 1")
    return Device(**values)


@cache
def _read(file: Path) -> dict[str, Any]:
    """Once for all stages of a chain."""
    return OmegaConf.to_container(OmegaConf.load(file))


def per_node(gpu: Device) -> int:
    """GPUs of a node: what the site says (MINITRON_GPUS_PER_NODE), else what the device's file says."""
    said = os.environ.get("MINITRON_GPUS_PER_NODE", "")
    return int(said) if said.isdigit() and int(said) else gpu.per_node


def usd_an_hour(plan: PlanConfig) -> float | None:
    """What an hour of the GPU that is planned for costs; None: nothing is paid by the hour."""
    return load(plan.gpu, "plan.gpu").usd_an_hour if plan.usd_an_hour is None else plan.usd_an_hour


def named(gpu: str) -> Device | None:
    """The device that CUDA calls so ("NVIDIA A100-SXM4-40GB" is a100-40), or None.

    The longest name of those whose parts are all in it: "NVIDIA GH200 480GB" holds "h200", too.
    """
    plain = gpu.lower().replace(" ", "")
    found = [name for name in options("device") if all(part in plain for part in name.split("-"))]
    return load(max(found, key=len), "gpu") if found else None
