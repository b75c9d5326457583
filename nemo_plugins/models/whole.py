"""Weights of a model that processes share out, whole on one of them, while it is trained.

What NeMo lacks: its exporters take a checkpoint, and a process that loads it.
"""

from __future__ import annotations

import re

import torch
from megatron.core import parallel_state
from nemo.utils.model_utils import unwrap_model
from torch import Tensor, distributed

LAYER = re.compile(r"decoder\.layers\.(\d+)\.(.*)")


def gather(parallel) -> dict[str, Tensor]:
    """All weights in host memory of the first process, by the names of a model in one process; on the others nothing.

    Every process calls it, with settled parameters (`training.parameters`).
    """
    if parallel_state.get_data_parallel_rank(with_context_parallel=True):
        return {}
    own = {}
    for model in map(unwrap_model, parallel):
        for name, parameter in model.named_parameters():
            weight = _joined(name, parameter.detach(), parameter, model.config.gated_linear_unit)
            if parallel_state.get_tensor_model_parallel_rank() == 0:
                own[_name(name, model)] = weight.cpu()
    return _of_all_stages(own) if parallel_state.get_tensor_model_parallel_rank() == 0 else {}


def _joined(name: str, shard: Tensor, parameter: Tensor, gated: bool) -> Tensor:
    """The weight of which each tensor-parallel process has a shard."""
    size = parallel_state.get_tensor_model_parallel_world_size()
    if size == 1 or not getattr(parameter, "tensor_model_parallel", False):
        return shard
    shards = [torch.empty_like(shard) for _ in range(size)]
    distributed.all_gather(shards, shard.contiguous(), group=parallel_state.get_tensor_model_parallel_group())
    if gated and ".linear_fc1." in name:  # each shard is a part of the gate and one of the other half
        shards = [half for halves in zip(*(each.chunk(2) for each in shards), strict=True) for half in halves]
    return torch.cat(shards, parameter.partition_dim)


def _name(name: str, model) -> str:
    """A parameter's name with the layer's number in the whole model, where a pipeline's stage counts its own."""
    found = LAYER.fullmatch(name)
    return f"decoder.layers.{model.decoder.layers[int(found[1])].layer_number - 1}.{found[2]}" if found else name


def _of_all_stages(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every pipeline stage's weights on the first one."""
    group = parallel_state.get_pipeline_model_parallel_group()
    stages: list = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(stages, {name: (weight.shape, weight.dtype) for name, weight in own.items()}, group=group)
    mine, device, found = distributed.get_rank(group), torch.cuda.current_device(), dict(own)
    for stage, weights in list(enumerate(stages))[1:]:
        for name, (shape, dtype) in weights.items():
            if mine == stage:
                distributed.send(own[name].to(device), group=group, group_dst=0)
            elif mine == 0:
                weight = torch.empty(shape, dtype=dtype, device=device)
                distributed.recv(weight, group=group, group_src=stage)
                found[name] = weight.cpu()
    return {} if mine else found
