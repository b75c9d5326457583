"""Tiny Hugging Face folders of random weights, for what must be right of every tensor."""

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

BUNDLED = Path(__file__).resolve().parents[1] / "assets" / "tiny_pl"


def write(config, folder: Path, bias_std: float = 1.0, **save) -> None:
    """A model whose norms are not 1 and whose biases are not 0, with the bundled tokenizer; `save`: as of `save_pretrained`."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, torch_dtype=config.dtype)
    for key, parameter in model.named_parameters():
        if "norm" in key:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif key.endswith("bias"):
            torch.nn.init.normal_(parameter, std=bias_std)
    model.save_pretrained(folder, **save)
    for file in BUNDLED.iterdir():
        if file.name not in ("config.json", "model.safetensors") and file.suffix in (".json", ".model", ".jinja"):
            shutil.copy(file, folder / file.name)
