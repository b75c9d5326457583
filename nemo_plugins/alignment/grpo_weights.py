"""What the trained weights, and the frozen reference's, think of completions: one model in memory, two sets of weights.

The reference is the policy before its first update. Its weights lie in host memory and in a file of the run for each part of
the model, and take the trained ones' place for a forward pass. What NeMo lacks: it has no reference models.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from megatron.core import parallel_state
from megatron.core.pipeline_parallel import get_forward_backward_func
from nemo.lightning._strategy_lib import _sync_from_last_pipeline_stage
from nemo.utils.model_utils import unwrap_model
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed

from nemo_plugins import runs
from nemo_plugins.alignment.grpo_batch import Rollout, Rows, row
from nemo_plugins.alignment.objective import Batch, data_step, forward_step
from nemo_plugins.runs.atomic import whole_file


def scale(parallel, temperature: float) -> None:
    """Make the model's distribution that of its logits / temperature: for drawing, log-probabilities and training alike."""
    for model in map(unwrap_model, parallel):
        if temperature != 1 and model.post_process:
            model.output_layer.register_forward_hook(lambda _layer, _given, made: (made[0] / temperature, *made[1:]))


class FrozenReference:
    """The weights that a training started from.

    Args:
        folder: gets `part-<tp>-<pp>.safetensors`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.weights: dict[str, Tensor] = {}

    def begin(self, parallel, step: int) -> None:
        """Keep the weights of step 0, or find them again.

        Raises:
            runs.Failed: a resumed run finds none, or the layout is another than at the start.
        """
        tensor, stage = parallel_state.get_tensor_model_parallel_rank(), parallel_state.get_pipeline_model_parallel_rank()
        parts = (
            parallel_state.get_tensor_model_parallel_world_size(),
            parallel_state.get_pipeline_model_parallel_world_size(),
        )
        path = self.folder / f"part-{tensor}of{parts[0]}-{stage}of{parts[1]}.safetensors"
        if not step:
            self.weights = {name: p.detach().to("cpu", copy=True) for name, p in _parameters(parallel)}
            if parallel_state.get_data_parallel_rank() == 0:
                with whole_file(path) as partial:
                    save_file(self.weights, partial)
            distributed.barrier()
            return
        if not path.is_file():
            raise runs.Failed(
                f"{path} is not there, and the weights are no longer the reference's",
                "a training goes on with the tensor and pipeline parallel sizes that it began with",
                "force=true does the stage again from its start",
            )
        self.weights = load_file(path)

    @contextmanager
    def in_place(self, parallel) -> Iterator[None]:
        """The reference's weights in the trained ones' place."""
        kept = {name: p.detach().clone() for name, p in _parameters(parallel)}
        try:
            _put(parallel, self.weights)
            yield
        finally:
            _put(parallel, kept)


def _parameters(parallel) -> Iterator[tuple[str, Tensor]]:
    for chunk, model in enumerate(map(unwrap_model, parallel)):
        for name, parameter in model.named_parameters():
            yield f"{chunk}.{name}", parameter


@torch.no_grad()
def _put(parallel, weights: dict[str, Tensor]) -> None:
    for name, parameter in _parameters(parallel):
        parameter.data.copy_(weights[name])


@torch.no_grad()
def logprobs(parallel, rollout: Rollout, rows: Rows, micro_batch: int) -> Tensor:
    """Log-probability of each label, fp32 `[n, s]`, 0 beyond each row; data-parallel copies share the work.

    Every process calls it and gets the same.
    """
    models = [unwrap_model(model) for model in parallel]
    copies, copy = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    order = torch.argsort(rollout.lengths, stable=True)
    parts = list(order.split(micro_batch))[copy::copies]
    logprobs = torch.zeros(rollout.old.shape, device=torch.cuda.current_device())
    training = [model.training for model in models]
    for model in models:
        model.eval()
    for part in parts:
        micro = rows.collate_fn([row(rollout, int(i)) for i in part])
        outputs = get_forward_backward_func()(
            forward_step_func=_step,
            data_iterator=[iter([micro]) for _ in models] if len(models) > 1 else iter([micro]),
            model=models if len(models) > 1 else models[0],
            num_microbatches=1,
            seq_length=micro["tokens"].shape[-1],
            micro_batch_size=len(part),
            forward_only=True,
            collect_non_loss_data=True,
        )
        if outputs:
            size = min(outputs[0].shape[-1], logprobs.shape[-1])
            logprobs[part] = torch.nn.functional.pad(outputs[0][:, :size], (0, logprobs.shape[-1] - size))
    for model, was in zip(models, training, strict=True):
        model.train(was)
    distributed.all_reduce(logprobs, group=parallel_state.get_data_parallel_group())
    _sync_from_last_pipeline_stage(logprobs, broadcast=True)
    logprobs = logprobs.cpu()
    return logprobs.masked_fill(torch.arange(1, logprobs.shape[1] + 1) >= rollout.lengths[:, None], 0)


def _step(batches, model):
    batch: Batch = data_step(batches)
    return forward_step(model, batch), lambda nll, non_loss_data=True: -nll.float()
