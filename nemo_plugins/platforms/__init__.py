"""Where NeMo runs: what it takes for granted (a CUDA device, Transformer Engine), put right only where it is missing."""

from dataclasses import dataclass
from functools import cache
from typing import Literal


@dataclass(frozen=True)
class Platform:
    """What this process found and what was put right for it.

    Attributes:
        accelerator: Lightning's name of the device.
        has_transformer_engine: whether Transformer Engine can be imported.
        adjustments: names of the adjustments applied, empty where nothing is missing.
    """

    accelerator: Literal["cpu", "gpu"]
    has_transformer_engine: bool
    adjustments: tuple[str, ...]


def has_cuda() -> bool:
    """Whether torch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


def has_transformer_engine() -> bool:
    """Whether Transformer Engine can be imported. An install whose libraries are missing counts as none, as it does in NeMo."""
    try:
        import transformer_engine.pytorch  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return False
    return True


@cache
def prepare() -> Platform:
    """Put right what NeMo, Megatron-Core and ModelOpt take for granted and this machine lacks. Later calls do nothing.

    Call it before anything of NeMo has run; NeMo may have been imported before. With a CUDA device and Transformer Engine it
    touches nothing and imports nothing of NeMo's.
    """
    cuda, engine = has_cuda(), has_transformer_engine()
    adjustments: tuple[str, ...] = ()
    if not cuda:
        from nemo_plugins.platforms import without_cuda

        adjustments += without_cuda.apply()
    if not engine:
        from nemo_plugins.platforms import without_transformer_engine

        adjustments += without_transformer_engine.apply()
    return Platform("gpu" if cuda else "cpu", engine, adjustments)
