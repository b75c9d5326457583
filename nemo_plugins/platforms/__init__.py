"""Where NeMo runs: what it takes for granted (a CUDA device, Transformer Engine), put right where it is missing."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Literal

from nemo_plugins.platforms import environment

TRANSFORMER_ENGINE = "transformer_engine"
APEX = (  # and those of its kernels that Megatron-Core imports by themselves; on a CPU's tensors they fail
    "apex",
    "amp_C",
    "fused_weight_gradient_mlp_cuda",
    "scaled_masked_softmax_cuda",
    "scaled_softmax_cuda",
    "scaled_upper_triang_masked_softmax_cuda",
)
UNIFIED_MEMORY = "megatron.core.inference.unified_memory"


@dataclass(frozen=True)
class Platform:
    """What this process found and what was put right for it.

    Attributes:
        accelerator: Lightning's name of the device.
        has_transformer_engine: whether Transformer Engine can be used.
        adjustments: names of the adjustments applied.
    """

    accelerator: Literal["cpu", "gpu"]
    has_transformer_engine: bool
    adjustments: tuple[str, ...]


def has_cuda() -> bool:
    """Whether torch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


def has_transformer_engine() -> bool:
    """Whether Transformer Engine can be used: it is installed whole, and a CUDA device is here.

    Without a device it can be imported, and its layers assert one when they are built
    (transformer_engine/pytorch/module/base.py, `assert torch.cuda.is_available()`).
    """
    if not has_cuda():
        return False
    try:
        import transformer_engine.pytorch  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return False
    return True


@cache
def prepare() -> Platform:
    """Put right what NeMo, Megatron-Core and ModelOpt take for granted and this machine lacks. Later calls do nothing.

    Call it before anything of NeMo is imported: what is installed and cannot be used is hidden from the libraries, which
    decide while they are imported. With a CUDA device and Transformer Engine it touches Transformer Engine's norms alone.
    A user without a home gets one (`environment.home`).

    Raises:
        RuntimeError: a library has already taken what cannot be used.
    """
    environment.home()
    leave_out_unified_memory()
    cuda, engine = has_cuda(), has_transformer_engine()
    adjustments: tuple[str, ...] = ()
    if not engine:
        hide([TRANSFORMER_ENGINE])
    if not cuda:
        hide(APEX)
        from nemo_plugins.platforms import without_cuda

        adjustments += without_cuda.apply()
    if not engine:
        from nemo_plugins.platforms import without_transformer_engine

        adjustments += without_transformer_engine.apply()
    else:
        from nemo_plugins.platforms import with_transformer_engine

        adjustments += with_transformer_engine.apply()
    return Platform("gpu" if cuda else "cpu", engine, adjustments)


def hide(packages: Sequence[str]) -> None:
    """Let an import of each package fail and `find_spec` find none, so that every library's own flag says that it is absent.

    NeMo, Megatron-Core and ModelOpt ask in some fifty places, each by an import of its own (`HAVE_TE`, `HAVE_APEX`,
    `_grad_accum_fusion_available`). Where a package is not installed nothing changes.

    Raises:
        RuntimeError: as `prepare`.
    """
    for package in filter(find_spec, packages):
        own = [name for name in sys.modules if name.partition(".")[0] == package]
        if own and "megatron.core" in sys.modules:
            raise RuntimeError(f"expected platforms.prepare() before any import of NeMo, which has taken {package} already")
        for name in own:  # of an import that failed half way
            del sys.modules[name]
        sys.modules[package] = None  # type: ignore[assignment]  # an import of it now fails; typeshed knows no None there


def leave_out_unified_memory() -> None:
    """Let Megatron-Core do without its allocator of managed memory, and without compiling it.

    megatron/core/inference/unified_memory.py:70 compiles it while it is imported, in every process, into a folder that all
    jobs of a user share, under a lock file that a process which is killed leaves behind: the next one waits for ever
    (torch/utils/file_baton.py). Only a dynamic engine whose `unified_memory_level` is above its default of 0 asks for it
    (megatron/core/inference/contexts/dynamic_context.py:276), and no stage has one.
    """
    if UNIFIED_MEMORY in sys.modules:
        return
    module = ModuleType(UNIFIED_MEMORY)
    vars(module).update(has_unified_memory=False, create_unified_mempool=None)
    sys.modules[UNIFIED_MEMORY] = module
