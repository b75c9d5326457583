"""Scores of a teacher: what one calibration pass left, as importance of layers, neurons, channels and heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nemo_plugins.configs.schema import AggregationConfig
from nemo_plugins.pruning import importance, score_file
from nemo_plugins.pruning.importance import Moments
from nemo_plugins.pruning.score_file import Measured

# where activations are read in each layer, as ModelOpt does: inputs of the FFN's second and the attention's output projection,
# outputs of both norms
WIDTH = ("ffn", "heads", "input_norm", "ffn_norm")
NORMS = ("input_norm", "ffn_norm")


@dataclass(frozen=True)
class Scores:
    """Tensors, layers from 0 through the whole model.

    - `layers` `[k, L]`: Block Influence of each layer on each of k subsets of the calibration, mean over their micro-batches;
    - `<where>.<over sequence>.total`, `.squares` `[L, n]`: sums over the samples of x and x², x being what the aggregation over
      the sequence gives; `ffn.mean.squares` and the like are ModelOpt's own accumulators, bit by bit;
    - `<where>.subsets` `[k, L, n]`: `<where>.mean.squares` of each subset alone.
    """

    tensors: dict[str, Tensor]
    measured: Measured

    @classmethod
    def load(cls, path: Path) -> Scores:
        return cls(score_file.load(path), score_file.read_header(path))

    @property
    def layers(self) -> Tensor:
        """Block Influence of each layer, `[L]`."""
        return self.tensors["layers"].mean(0)

    def width(self, where: str, how: AggregationConfig) -> Tensor:
        """Importance of each channel at one of `WIDTH`, `[L, n]`."""
        name = f"{where}.{how.sequence.value}"
        moments = Moments(self.tensors[f"{name}.total"], self.tensors[f"{name}.squares"], self.measured.samples)
        return moments.importance(how.samples)

    def heads(self, how: AggregationConfig) -> Tensor:
        """Importance of each attention head, `[L, heads]`."""
        return importance.head_importance(self.width("heads", how), self.measured.architecture["num_attention_heads"])

    def hidden(self, how: AggregationConfig) -> Tensor:
        """Importance of each hidden channel, `[h]`: the sum over all norms, as ModelOpt has it."""
        return sum(self.width(where, how).sum(0) for where in NORMS)

    def into(self, dynamic, how: AggregationConfig) -> None:
        """Give ModelOpt's dynamic model the width scores of this rank's layers, as if it had measured them itself."""

        def squares(where: str, layer: int, to: Tensor) -> Tensor:
            if how == AggregationConfig():
                return self.tensors[f"{where}.mean.squares"][layer].to(to)  # ModelOpt's own
            return importances[where][layer].square().to(to)  # ModelOpt takes the root

        importances = {} if how == AggregationConfig() else {where: self.width(where, how) for where in WIDTH}
        assign(dynamic, squares)


def assign(dynamic, squares) -> None:
    """Set the squared scores of every layer of this rank: `squares(where, layer from 0, like)` gives `[n]`."""
    hidden = {}
    for layer in dynamic.decoder.layers:
        number, like = layer.layer_number - 1, torch.empty(0, dtype=torch.float32, device=layer.mlp.linear_fc2.weight.device)
        layer.mlp._activations = squares("ffn", number, like)
        layer.self_attention._activations = squares("heads", number, like)
        hidden[id(layer.input_layernorm)] = squares("input_norm", number, like)
        hidden[id(layer.pre_mlp_layernorm)] = squares("ffn_norm", number, like)
    dynamic._activations = hidden
