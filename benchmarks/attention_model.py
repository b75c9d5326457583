"""A model of Megatron's own layers in fp32 on this CPU, whose attention is torch's or Megatron's, for the benchmarks of it."""

from __future__ import annotations

import tempfile

import torch
from megatron.core import parallel_state
from megatron.core.transformer.dot_product_attention import DotProductAttention

from nemo_plugins import runs
from nemo_plugins.models import nemo
from nemo_plugins.platforms.attention import forward, megatrons
from nemo_plugins.runs.prepare import compose

ATTENTIONS = {"torch": forward, "megatron": megatrons}


def load(*overrides: str):
    """`tiny_pl` with `overrides`, random, in a process group of its own. Returns the model and its configuration."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tempfile.mktemp()}", rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    cfg = compose(["+model=tiny_pl", *overrides])
    config = nemo.config(cfg.model, runs.architecture(cfg.model), torch.float32)
    config.use_cpu_initialization = True
    return config.configure_model(None), cfg.model


def attend(attention: str, length: int) -> torch.Tensor | None:
    """Let all layers attend by one of `ATTENTIONS`. Returns the mask that it wants: Megatron's would make its own on CUDA."""
    DotProductAttention.forward = ATTENTIONS[attention]
    return torch.ones(1, 1, length, length, dtype=torch.bool).triu(1) if attention == "megatron" else None


def loss(model, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean loss of sequences `[b, s + 1]`."""
    b, s = tokens.shape[0], tokens.shape[1] - 1
    return model(tokens[:, :-1], torch.arange(s).expand(b, -1), mask, labels=tokens[:, 1:]).mean()
