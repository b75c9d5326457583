"""What a pruned FFN neuron has in common with the kept ones goes into their weights: least squares on the calibration text.

What NeMo and ModelOpt lack: their pruning cuts columns of the second linear layer and leaves the others as they were.

A layer's FFN puts out A Wᵀ, A being its activations `[tokens, f]` and W the second layer's weight `[h, f]`. Without the neurons
R it puts out A_K W'ᵀ, and the W' that is nearest is the optimal update of ZipLM (arXiv 2302.04089, section 3.1) for C = AᵀA:

    W' = W_K + W_R C_RK (C_KK + λI)⁻¹        minimises ‖A Wᵀ − A_K W'ᵀ‖² + λ ‖W' − W_K‖²

λ draws towards the teacher's own weights: where the text says little of a neuron, its weights stay. C takes a pass of its own
over the calibration text and is no part of the scores: it is measured without the dropped layers, on what the student's layers
are given, so it belongs to one student, and it has f² values a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

RIDGE = 0.01  # own choice: λ as a share of the mean of C_KK's diagonal, as GPTQ and SparseGPT damp the same matrix


def least_squares(weight: Tensor, moments: Tensor, kept: Tensor, ridge: float = RIDGE) -> Tensor:
    """Weights of the kept neurons that stand in for all, `[h, k]` in fp64.

    Args:
        weight: of the FFN's second linear layer, `[h, f]`.
        moments: AᵀA of its inputs, `[f, f]`.
        kept: the neurons that stay, `[k]`, in any order, which is the result's.
        ridge: λ over the mean of C_KK's diagonal; at 0, C_KK has to have full rank.
    """
    weight, moments = weight.double(), moments.double()
    removed = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
    removed[kept] = False
    shared = moments[kept][:, kept]
    shared.diagonal().add_(ridge * shared.diagonal().mean())
    lost = moments[kept][:, removed] @ weight[:, removed].T  # C_KR W_Rᵀ, [k, h]
    return weight[:, kept] + torch.cholesky_solve(lost, torch.linalg.cholesky(shared)).T


def unexplained(weight: Tensor, moments: Tensor, kept: Tensor, instead: Tensor) -> float:
    """Share of the FFN's output that is missing, ‖A Wᵀ − A_K W'ᵀ‖² / ‖A Wᵀ‖²: 0 is all there, 1 is as bad as no output.

    Args:
        weight, moments, kept: as of `least_squares`.
        instead: W', `[h, k]`.
    """
    weight, moments = weight.double(), moments.double()
    missing = weight.clone()
    missing[:, kept] -= instead.double()
    return (((missing @ moments) * missing).sum() / ((weight @ moments) * weight).sum()).item()


def second_moments(dynamic, layers: Collection[int], forward: Callable[[], object]) -> dict[int, Tensor]:
    """AᵀA of the inputs of the FFN's second linear layer, `[f, f]` in fp32, for those of `layers` (from 0) that this rank has.

    Args:
        dynamic: ModelOpt's searchable model, uncut.
        forward: runs the calibration text through the model once.
    """
    sums: dict[int, Tensor] = {}

    def add(number: int) -> Callable:
        def read(module, inputs) -> None:
            activations = inputs[0].detach().flatten(0, 1).float()  # [tokens, f]
            sums[number].addmm_(activations.T, activations)

        return read

    handles = []
    for layer in dynamic.decoder.layers:
        number, second = layer.layer_number - 1, layer.mlp.linear_fc2
        if number in layers:
            neurons = second.weight.shape[1]
            sums[number] = torch.zeros(neurons, neurons, dtype=torch.float32, device=second.weight.device)
            handles.append(second.register_forward_pre_hook(add(number)))
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return sums


def fold(dynamic, moments: dict[int, Tensor], keep: int) -> dict[int, tuple[float, float]]:
    """Give the neurons that ModelOpt is about to keep their new weights, in place; those that go are left as they are.

    Args:
        dynamic: ModelOpt's searchable model with its scores, neither sorted nor cut.
        moments: as of `second_moments`.
        keep: neurons that stay in each layer.
    Returns: layer (from 0) → `unexplained` with the teacher's weights and with the new ones, on every rank of a pipeline alike.
    """
    shares: dict[int, tuple[float, float]] = {}
    for layer in dynamic.decoder.layers:
        if (number := layer.layer_number - 1) not in moments:
            continue
        weight, shared = layer.mlp.linear_fc2.weight.detach(), moments[number]
        kept = layer.mlp.get_hparam("ffn_hidden_size").importance.argsort(descending=True)[:keep]  # as ModelOpt sorts them
        instead = least_squares(weight, shared, kept).to(weight.dtype)
        shares[number] = unexplained(weight, shared, kept, weight[:, kept]), unexplained(weight, shared, kept, instead)
        weight[:, kept] = instead
    return _gather(shares)


def _gather(mine: dict[int, tuple[float, float]]) -> dict[int, tuple[float, float]]:
    """The layers of all pipeline stages, in order."""
    from megatron.core import parallel_state

    group = parallel_state.get_pipeline_model_parallel_group()
    parts: list = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(parts, mine, group=group)
    return dict(sorted(pair for part in parts for pair in part.items()))
