"""Devices that train or serve: memory, bandwidth and arithmetic, a file of `conf/device/` each."""

from __future__ import annotations

from dataclasses import dataclass, fields

from omegaconf import OmegaConf

from nemo_plugins.configs.store import CONF, options
from nemo_plugins.runs.errors import UserError


@dataclass(frozen=True)
class Device:
    """One GPU, or one machine without.

    `memory_gib` is in units of 2^30 bytes, as memory chips are made; `bandwidth_gb_s` in 10^9 bytes a second and `peak_tflops`
    (dense bf16) in 10^12 operations a second, as the vendor states them; `usable` the share of the memory that weights and
    key-value cache may take.
    """

    name: str
    source: str
    memory_gib: float
    bandwidth_gb_s: float
    peak_tflops: float
    usable: float

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
    values = OmegaConf.to_container(OmegaConf.load(file))
    known = {each.name for each in fields(Device)}
    if set(values) != known:
        differ = ", ".join(sorted(known.symmetric_difference(values)))
        raise UserError(
            f"{key}={name}: {file} has not just the keys of a device ({differ})", f"expected {', '.join(sorted(known))}"
        )
    numbers = {field: values[field] for field in sorted(known - {"name", "source"})}
    wrong = [field for field, value in numbers.items() if not isinstance(value, (int, float)) or value <= 0]
    if wrong or values["usable"] > 1:
        raise UserError(f"{key}={name}: {file}: {', '.join(wrong) or 'usable'}", "expected positive numbers, usable at most 1")
    return Device(**values)


def named(gpu: str) -> Device | None:
    """The device whose file's name is part of what CUDA calls the GPU ("NVIDIA H100 80GB HBM3"), or None."""
    plain = gpu.lower().replace(" ", "")
    return next((load(name, "gpu") for name in options("device") if name in plain), None)
