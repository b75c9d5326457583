"""Which format of a model to take to a device, how much context it leaves room for, and how fast it can be at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nemo_plugins.configs.schema import Format
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import decode, devices, formats
from nemo_plugins.planning.budget import gigabytes
from nemo_plugins.planning.devices import Device
from nemo_plugins.planning.plan import Table

DEVICES = ("rtx4090", "laptop16", "phone8")
LEAST = 1024  # tokens of context below which nobody chats
BEST_FIRST = (Format.bf16, Format.q8_0, Format.q6_k, Format.q5_k_m, Format.q4_k_m)  # by what they lose; every device runs them


@dataclass(frozen=True)
class Fit:
    """A format on a device. Bytes of the weights; tokens of one stream's cache beside them; tokens a second at most."""

    format: Format
    weights: int
    context: int
    tokens_per_second: float


def room(model: Architecture, device: Device, format: Format) -> int:
    """Tokens whose keys and values fit beside the weights, at most the model's own context; 0: not even the weights fit."""
    free = device.usable_bytes - formats.weight_bytes(model, format)
    return max(0, min(model.context_length, int(free // decode.cache_bytes(model, 1))))


def best(model: Architecture, device: Device, context: int) -> Fit | None:
    """The format that loses least of those that leave room for `context` tokens, else the smallest with what room there is.

    None: not even that leaves `LEAST` tokens.
    """
    for format in BEST_FIRST:
        tokens = room(model, device, format)
        if tokens >= min(context, model.context_length) or (format is BEST_FIRST[-1] and tokens >= LEAST):
            time = decode.milliseconds(model, device, format, min(context, tokens))
            return Fit(format, formats.weight_bytes(model, format), tokens, 1e3 / time)
    return None


def table(models: Sequence[tuple[str, Architecture]], context: int) -> Table:
    """Every device of `DEVICES`, every model: what to take there."""
    rows = []
    for name in DEVICES:
        device = devices.load(name, "device")
        for called, model in models:
            found = best(model, device, context)
            if found is None:
                rows.append((f"{device.name} ({name})", called, "none fits", "", "", ""))
            else:
                speed = f"{found.tokens_per_second:,.1f}"
                weights = gigabytes(found.weights)
                rows.append((f"{device.name} ({name})", called, found.format.value, weights, f"{found.context:,}", speed))
    return Table(
        f"Where it fits: the format that loses least with room for {context:,} tokens; speed by the bytes moved, at most",
        rows,
        ["", "", "format", "weights", "tokens of context", "tokens/s at most"],
    )
