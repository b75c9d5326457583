"""One calibration pass over the teacher, which leaves all scores that any later pruning of it needs.

What ModelOpt lacks: it measures one aggregation (mean over the sequence, L2 over the samples) and adds all samples up, so
that another aggregation costs another pass and nobody sees whether the samples were enough. Its own hooks do the measuring
here, too; ours stand beside them for the other aggregations, and its sums are noted at the end of each subset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from nemo_plugins.configs.schema import Aggregate
from nemo_plugins.pruning import importance
from nemo_plugins.pruning.score_file import Measured
from nemo_plugins.pruning.scores import WIDTH, Scores


def dynamic_model(model):
    """ModelOpt's searchable model inside NeMo's module. Raises ValueError where it has not been converted."""
    from modelopt.torch.nas.plugins.megatron import _DynamicMCoreLanguageModel

    for module in model.modules():
        if isinstance(module, _DynamicMCoreLanguageModel):
            return module
    raise ValueError("the model is not searchable: convert it with ModelOpt's mode mcore_minitron first")


def measure(model, trainer, forward: Callable[[], object], measured: Measured) -> Scores:
    """Scores of every layer of the model, the same on every rank of a pipeline.

    Args:
        model: NeMo's module, converted by ModelOpt.
        trainer: what `forward` validates with.
        forward: runs the calibration samples through the model once.
        measured: what the scores will say of themselves.
    """
    dynamic = dynamic_model(model)
    forget(dynamic)
    collector = Collector(dynamic, measured.samples // measured.micro_batch_size // measured.subsets)
    trainer.callbacks.append(collector)
    was_training = model.training
    model.eval()
    with torch.no_grad(), collector.watching():
        forward()
    model.train(was_training)
    trainer.callbacks.remove(collector)
    return Scores(_gather(collector.tensors()), measured)


def forget(dynamic) -> None:
    """Empty ModelOpt's sums: its hooks add up whatever has run since the conversion, a held-out loss too."""
    dynamic._activations = {}
    for layer in dynamic.decoder.layers:
        layer._scores = 0.0
        layer.mlp._activations = None
        layer.self_attention._activations = None


class Collector(Callback):
    """Reads activations while the model runs; counts batches to note ModelOpt's sums at the end of each subset.

    Args:
        batches: micro-batches of a subset.
    """

    def __init__(self, dynamic, batches: int):
        self.layers = list(dynamic.decoder.layers)
        self.dynamic = dynamic
        self.batches = batches
        self.seen = 0
        self.sums: dict[tuple[str, int], Tensor] = {}
        self.at_subset: list[dict[tuple[str, int], Tensor]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        handles = []
        for layer in self.layers:
            number = layer.layer_number - 1
            for where, module in self._modules(layer).items():
                handles.append(module.register_forward_hook(self._hook(where, number, reads_output=where.endswith("norm"))))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @staticmethod
    def _modules(layer) -> dict[str, torch.nn.Module]:
        return {
            "ffn": layer.mlp.linear_fc2,
            "heads": layer.self_attention.linear_proj,
            "input_norm": layer.input_layernorm,
            "ffn_norm": layer.pre_mlp_layernorm,
        }

    def _hook(self, where: str, layer: int, reads_output: bool):
        def read(module, inputs, output) -> None:
            activations = output if reads_output else inputs[0]
            for how in Aggregate:
                values = importance.over_sequence(activations.detach(), how).double()
                self._add(f"{where}.{how.value}.total", layer, values.sum(0))
                if how is not Aggregate.mean:  # those are ModelOpt's
                    self._add(f"{where}.{how.value}.squares", layer, values.square().sum(0))

        return read

    def _add(self, name: str, layer: int, values: Tensor) -> None:
        key = (name, layer)
        self.sums[key] = self.sums[key] + values if key in self.sums else values

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        self.seen += 1
        if self.seen % self.batches == 0:
            self.at_subset.append(self._modelopts())

    def _modelopts(self) -> dict[tuple[str, int], Tensor]:
        """ModelOpt's sums so far."""
        scores_of = {}
        for layer in self.layers:
            number = layer.layer_number - 1
            scores_of["ffn", number] = layer.mlp._activations.clone()
            scores_of["heads", number] = layer.self_attention._activations.clone()
            scores_of["input_norm", number] = self.dynamic._activations[id(layer.input_layernorm)].clone()
            scores_of["ffn_norm", number] = self.dynamic._activations[id(layer.pre_mlp_layernorm)].clone()
            scores_of["layers", number] = torch.tensor(layer._scores)
        return scores_of

    def tensors(self) -> dict[tuple[str, int], Tensor]:
        """Everything of this rank's layers, by name and layer."""
        ends = self.at_subset
        values = {key: value.cpu() for key, value in self.sums.items()}
        for where, layer in ends[-1]:
            sums = torch.stack([end[where, layer].cpu() for end in ends])
            parts = torch.cat([sums[:1], sums.diff(dim=0)])
            if where == "layers":
                values[where, layer] = parts.double() / self.batches
            else:
                values[f"{where}.mean.squares", layer] = sums[-1]
                values[f"{where}.subsets", layer] = parts.clamp_min(0)
        return values


def _gather(mine: dict[tuple[str, int], Tensor]) -> dict[str, Tensor]:
    """One tensor a name from the layers of all pipeline stages."""
    from megatron.core import parallel_state

    group = parallel_state.get_pipeline_model_parallel_group()
    parts: list = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(parts, mine, group=group)
    every = {key: value for part in parts for key, value in part.items()}
    count = 1 + max(layer for _, layer in every)
    whole = {}
    for name in sorted({name for name, _ in every}):
        of_subsets = name == "layers" or name.endswith(".subsets")
        whole[name] = torch.stack([every[name, layer] for layer in range(count)], dim=1 if of_subsets else 0)
    assert set(whole) == {"layers", *(f"{where}.subsets" for where in WIDTH)} | {
        f"{where}.{how.value}.{what}" for where in WIDTH for how in Aggregate for what in ("total", "squares")
    }
    return whole
