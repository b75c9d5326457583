"""What the reference thinks of the pairs: log-probability of each answer's tokens, measured once before the first update.

The policy before its first update is the reference, so the same weights, layout and kernels measure it and no second model is
ever in memory. What NeMo lacks: it has no reference models.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from megatron.core import parallel_state
from megatron.core.pipeline_parallel import get_forward_backward_func
from nemo.utils.model_utils import unwrap_model
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed

from nemo_plugins import runs
from nemo_plugins.alignment.objective import Batch, data_step, forward_step
from nemo_plugins.data.chat.pairs import Pairs
from nemo_plugins.runs.atomic import whole_file
from nemo_plugins.training.parameters import settled

INTERVAL = 20.0  # seconds between lines of progress


class ReferenceLogprobs(Callback):
    """Log-probabilities of sets of pairs under the weights that training starts from, in files that a resumed run finds.

    Args:
        folder: gets `<name>.safetensors` with fp32 `logp`, the labels' of all pairs one after the other, 2 · length each.
        sets: by name; their items then have `reference`.
        rows: pairs of a micro-batch.
        made_of: what the numbers depend on: weights, pairs, precision. A file of something else is refused.
    """

    def __init__(self, folder: Path, sets: dict[str, Pairs], rows: int, made_of: str):
        self.folder = folder
        self.sets = sets
        self.rows = rows
        self.made_of = made_of
        self.files: dict[str, Any] = {}
        for name, pairs in sets.items():
            pairs.reference = self._reader(name, pairs)

    def on_train_start(self, trainer, pl_module) -> None:
        for name, pairs in self.sets.items():
            path = self.folder / f"{name}.safetensors"
            if not path.is_file():
                if trainer.global_step:
                    raise runs.Failed(
                        f"{path} is gone, and the weights are no longer the reference's",
                        "force=true does the stage again from its start",
                    )
                self._measure(trainer.strategy.megatron_parallel, pairs, path, name)
            trainer.strategy.barrier("reference is written")

    def _reader(self, name: str, pairs: Pairs):
        starts = np.concatenate([[0], np.cumsum(2 * pairs.lengths)])

        def read(index: int, length: int) -> Tensor:
            """fp32 `[2, length]`."""
            if name not in self.files:
                file = safe_open(self.folder / f"{name}.safetensors", "pt")
                if (source := (file.metadata() or {}).get("made_of")) != self.made_of:
                    raise runs.Failed(
                        f"{self.folder / name}.safetensors was measured on other weights, pairs or precision: {source}",
                        f"expected {self.made_of}",
                        "force=true does the stage again from its start",
                    )
                self.files[name] = file.get_slice("logp")
            start = int(starts[index])
            return self.files[name][start : start + 2 * length].view(2, length)

        return read

    def _measure(self, parallel, pairs: Pairs, path: Path, name: str) -> None:
        """Every data-parallel copy takes its share of the micro-batches, the first process puts them together."""
        copies, copy = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
        order = np.argsort(pairs.lengths, kind="stable")  # like lengths together: little padding
        batches = [order[at : at + self.rows] for at in range(0, len(order), self.rows)]
        mine = batches[copy::copies]
        reader, pairs.reference = pairs.reference, None
        logprobs: dict[int, Tensor] = {}
        began = spoke = time.monotonic()
        models = [unwrap_model(model) for model in parallel]
        with settled(parallel):  # the copies' shares are not equal: the last round may have a micro-batch for some of them
            for place, indices in enumerate(mine, 1):
                for index, logp in zip(indices.tolist(), self._logprobs(models, pairs, indices), strict=True):
                    logprobs[index] = logp
                now = time.monotonic()
                if runs.rank() == 0 and (now - spoke > INTERVAL or place == len(mine)):
                    spoke, left = now, (len(mine) - place) * (now - began) / place / 60
                    runs.console(2).print(f"reference: {name}, {place:,}/{len(mine):,} micro-batches  {left:.1f} min left")
        pairs.reference = reader
        self._write(logprobs, pairs, path, copy, copies)

    @torch.no_grad()
    def _logprobs(self, models: list, pairs: Pairs, indices: Sequence[int]) -> list[Tensor]:
        """fp32 `[2, length]` of each pair; zeros on all but a pipeline's last stage."""
        micro = pairs.collate_fn([pairs[int(index)] for index in indices])
        lengths = [int(pairs.lengths[index]) for index in indices]
        size = micro["tokens"].shape

        def step(batches, model):
            batch: Batch = data_step(batches)
            return forward_step(model, batch), lambda nll, non_loss_data=True: -nll.float()

        training = [model.training for model in models]
        for model in models:
            model.eval()
        outputs = get_forward_backward_func()(
            forward_step_func=step,
            data_iterator=[iter([micro]) for _ in models] if len(models) > 1 else iter([micro]),
            model=models if len(models) > 1 else models[0],
            num_microbatches=1,
            seq_length=size[-1],
            micro_batch_size=2 * len(indices),
            forward_only=True,
            collect_non_loss_data=True,
        )
        for model, was in zip(models, training, strict=True):
            model.train(was)
        logp = outputs[0].view(size).cpu() if outputs else torch.zeros(size)
        return [one[:, :length].contiguous() for one, length in zip(logp, lengths, strict=True)]

    def _write(self, logprobs: dict[int, Tensor], pairs: Pairs, path: Path, copy: int, copies: int) -> None:
        last = parallel_state.is_pipeline_last_stage() and parallel_state.get_tensor_model_parallel_rank() == 0
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = [path.with_name(f".{path.stem}-{number}.safetensors") for number in range(copies)]
        if last:
            indices = sorted(logprobs)
            flat = torch.cat([logprobs[index].reshape(-1) for index in indices]) if indices else torch.zeros(0)
            save_file({"indices": torch.tensor(indices, dtype=torch.int64), "logp": flat}, parts[copy])
        distributed.barrier()
        if runs.rank() == 0:
            starts = np.concatenate([[0], np.cumsum(2 * pairs.lengths)])
            whole = torch.full((int(starts[-1]),), math.nan)
            for part in parts:
                with safe_open(part, "pt") as file:
                    indices, flat, at = file.get_tensor("indices").tolist(), file.get_tensor("logp"), 0
                for index in indices:
                    size = 2 * int(pairs.lengths[index])
                    whole[int(starts[index]) : int(starts[index]) + size] = flat[at : at + size]
                    at += size
            if not whole.isfinite().all():
                raise runs.Failed("the reference gave log-probabilities that are not finite", "are the weights whole?")
            with whole_file(path) as partial:
                save_file({"logp": whole}, partial, metadata={"made_of": self.made_of})
            for part in parts:
                part.unlink()
        distributed.barrier()
