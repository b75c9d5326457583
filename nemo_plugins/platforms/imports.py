"""Imports that a stage makes and a product on every GPU, as JSON lines: `python -m nemo_plugins.platforms.imports cpu|gpu`."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module

SIZE = 1024  # rows of the matrices
TOLERANCE = 2**-6  # of bf16's eight bits of mantissa, relative to the largest value


def main(platform: str) -> None:
    """Try each, print what came of it as a finding, go on."""
    _say("import torch", lambda: import_module("torch").__version__)
    if platform == "gpu":
        import torch

        _say("CUDA", _cuda)
        for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            _say(f"GPU {number} computes", partial(_compute, number))
        _say("import Transformer Engine", lambda: import_module("transformer_engine.pytorch").__name__, needed=False)
        _say("import Apex", lambda: import_module("apex").__name__, needed=False)
    _say("import NeMo", _nemo)


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU")
    version = ".".join(map(str, torch.cuda.nccl.version()))
    return f"{torch.cuda.device_count()} GPUs, NCCL {version}, bf16 {'yes' if torch.cuda.is_bf16_supported() else 'no'}"


def _compute(number: int) -> str:
    """A product in bf16 against the same in fp32 on the CPU: a GPU that computes wrongly is worse than one that is gone."""
    import torch

    one, other = (torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).bfloat16() for seed in (1, 2))
    expected = one.float() @ other.float()
    got = (one.to(f"cuda:{number}") @ other.to(f"cuda:{number}")).float().cpu()
    error = ((got - expected).abs().max() / expected.abs().max()).item()
    if not error < TOLERANCE:
        raise RuntimeError(f"its product in bf16 is off by {error:.2g} of the largest value")
    return f"{torch.cuda.get_device_name(number)}: a product in bf16 is right to {error:.1g}"


def _nemo() -> str:
    from nemo_plugins import platforms

    here = platforms.prepare()
    from nemo.collections import llm

    return f"{llm.__name__}, {len(here.adjustments)} adjustments for this platform"


def _say(what: str, attempt: Callable[[], str], needed: bool = True) -> None:
    began = time.monotonic()
    try:
        found, state, remedy = f"{attempt()} ({time.monotonic() - began:.1f} s)", "ok", ""
    except Exception as error:  # whatever a library does when it is loaded on a machine that it does not like
        traceback.print_exc()
        found, state = f"{type(error).__name__}: {error}".splitlines()[0], "lacks" if needed else "note"
        remedy = "python -m nemo_plugins.platforms.imports shows it whole"
    print(json.dumps({"what": what, "found": found, "state": state, "remedy": remedy}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cpu")
