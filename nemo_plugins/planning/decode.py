"""Time of one generated token at batch 1, from the bytes that it moves.

One stream's decoding waits for memory: every token reads all weights but the input embedding, and the keys and values of the
tokens before it. At the vendor's bandwidth that is a lower bound: the paper's own measurements (arXiv 2603.11881, RTX PRO 6000,
bf16) are 18.28 and 12.32 ms where the bounds are 12.3 and 8.2. The ratio of two models holds much better than their times.
"""

from __future__ import annotations

from nemo_plugins.configs.schema import Format
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import formats
from nemo_plugins.planning.devices import Device

CACHE_BYTES = 2  # of a key or a value: bf16, the default of vLLM and llama.cpp (fp16) alike


def cache_bytes(model: Architecture, context: int) -> int:
    """Bytes of the key-value cache of `context` tokens."""
    return model.kv_cache_bytes(context, CACHE_BYTES)


def bytes_moved(model: Architecture, format: Format, context: int = 0) -> int:
    """Bytes read for one token after `context` others."""
    return formats.bytes_per_token(model, format) + cache_bytes(model, context)


def milliseconds(model: Architecture, device: Device, format: Format, context: int = 0) -> float:
    """Least time of one token on a device."""
    return 1e3 * bytes_moved(model, format, context) / device.bytes_per_second


def speed_up(teacher: Architecture, student: Architecture, format: Format, context: int = 0) -> float:
    """Tokens a second of the student over the teacher's, on any device: the bandwidth cancels."""
    return bytes_moved(teacher, format, context) / bytes_moved(student, format, context)
