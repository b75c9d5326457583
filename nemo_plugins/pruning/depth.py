"""Which layers stay."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nemo_plugins.configs.schema import Criterion
from nemo_plugins.pruning.layer_removal import Removals


def kept_layers(
    criterion: Criterion, layers: int, keep: int, scores: Sequence[float] | None, removals: Removals | None, seed: int
) -> list[int]:
    """Layers that stay, from 0, in their order.

    Args:
        layers, keep: of the teacher and of the student.
        scores: Block Influence of each layer, for `importance`.
        removals: for `loss` each layer alone, for `loss_run` each run of `layers - keep`.
        seed: of `random`.
    """
    if keep == layers:
        return list(range(layers))
    if criterion is Criterion.random:
        return sorted(random.Random(seed).sample(range(layers), keep))
    if criterion is Criterion.last_layers:
        return list(range(keep))
    if criterion is Criterion.loss_run:
        if removals is None:
            raise ValueError("loss_run wants the loss without each run of layers")
        of_length = removals.of_length(layers - keep)
        first, last = min(of_length, key=of_length.__getitem__)
        return [layer for layer in range(layers) if not first <= layer <= last]
    ranked = scores if criterion is Criterion.importance else removals.of_layers() if removals else None
    if ranked is None:
        raise ValueError(f"{criterion} wants a number for each layer")
    # ModelOpt's order: the highest first, of equals the first layer
    return sorted(sorted(range(layers), key=lambda layer: ranked[layer], reverse=True)[:keep])
