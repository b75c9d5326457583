"""Calibrated FP8 and NVFP4 by ModelOpt on a GPU, as a folder that vLLM loads.

transformers cannot load such a folder, so what is written is held against the source in two steps: the quantised model as
ModelOpt simulates it, before writing, and the written weights, read back and multiplied out, against the source's.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from nemo_plugins.configs.schema import Target
from nemo_plugins.export import reference
from nemo_plugins.export.reference import Reference
from nemo_plugins.models import hf_model, nemo
from nemo_plugins.planning import hf_folder
from nemo_plugins.planning.hf_folder import HfFolder
from nemo_plugins.runs.atomic import whole
from nemo_plugins.runs.errors import Failed

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])  # magnitudes of the three low bits; the fourth is the sign
BLOCK = 16  # values that share an fp8 scale in NVFP4
LARGEST_ERROR = {
    Target.fp8_static: 0.05,
    Target.nvfp4: 0.2,
}  # of a weight, relative in the 2-norm; own choice: twice what noise has


def convert(folder: HfFolder, to: Path, target: Target, windows: list[list[int]], known: Reference | None) -> dict[str, Any]:
    """Calibrate on the windows, measure, write, read back. Whole or not at all.

    Returns: KL, top-1 and perplexities of the simulated model, and the largest error of a weight as it was written.
    Raises:
        Failed: a written weight is not the source's.
    """
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint

    model = hf_model.load(folder.path, torch.bfloat16).to("cuda")

    @torch.no_grad()
    def calibrate(quantised) -> None:
        for window in windows:
            quantised(torch.tensor([window], device="cuda"), use_cache=False)

    recipe = mtq.FP8_DEFAULT_CFG if target is Target.fp8_static else mtq.NVFP4_DEFAULT_CFG
    model = mtq.quantize(model, recipe, calibrate)
    checked: dict[str, Any] = {}
    if known:
        checked |= known.numbers(functools.partial(reference.logits, model), functools.partial(reference.answer, model))
    with whole(to) as partial:
        with torch.inference_mode():
            export_hf_checkpoint(model, dtype=torch.bfloat16, export_dir=partial)
        written = (partial / "config.json").read_bytes()
        nemo.copy_description(folder.path, partial)
        (partial / "config.json").write_bytes(written)  # ModelOpt's, which says how the weights are stored
        checked["weight_error"] = weight_error(folder, partial)
        if checked["weight_error"] > LARGEST_ERROR[target]:
            raise Failed(
                f"{target}: a weight of {partial} is {checked['weight_error']:.1%} off the source's, which is not rounding"
            )
    return checked


def weight_error(source: HfFolder, written: Path) -> float:
    """Largest relative error of a linear layer's weight, in the 2-norm."""
    from safetensors import safe_open

    places = {name: tensor.shard for name, tensor in hf_folder.stored(written, "export").items()}

    def load(name: str) -> torch.Tensor:
        with safe_open(places[name], "pt") as file:
            return file.get_tensor(name)

    largest = 0.0
    for tensor in source.tensors.values():
        if tensor.is_linear:
            with safe_open(tensor.shard, "pt") as file:
                exact = file.get_tensor(tensor.name).float()
            parts = {part: load(f"{tensor.name}{part}") for part in ("_scale", "_scale_2") if f"{tensor.name}{part}" in places}
            got = multiplied_out(load(tensor.name), parts["_scale"], parts.get("_scale_2"))
            largest = max(largest, ((got - exact).norm() / exact.norm().clamp_min(1e-30)).item())
    return largest


def multiplied_out(values: torch.Tensor, scale: torch.Tensor, of_scales: torch.Tensor | None) -> torch.Tensor:
    """Weights that ModelOpt stored, in fp32.

    Args:
        values: float8_e4m3fn [rows, columns], or uint8 [rows, columns / 2]: two E2M1 values a byte, the first in the low bits.
        scale: one number, or fp8 [rows, columns / 16].
        of_scales: what NVFP4's scales are multiplied by, one number.
    """
    if of_scales is None:
        return values.float() * scale.float()
    nibbles = torch.stack((values & 15, values >> 4), -1).flatten(1).long()
    numbers = E2M1.to(values.device)[nibbles & 7] * (1 - 2 * (nibbles >> 3))
    blocks = numbers.unflatten(1, (-1, BLOCK)) * (scale.float() * of_scales.float())[..., None]
    return blocks.flatten(1)
