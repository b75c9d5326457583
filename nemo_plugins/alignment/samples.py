"""Training samples of alignment for NeMo's trainer: shuffled anew each epoch, the position kept in checkpoints.

What NeMo lacks: its fine-tuning module reads files of its own making and cannot hold pairs or rows with references.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import lightning.pytorch as pl
import numpy as np
from nemo.collections.llm import PreTrainingDataModule
from nemo.lightning.pytorch.plugins import MegatronDataSampler
from torch.utils.data import ConcatDataset, Dataset, Subset, default_collate

from nemo_plugins import runs

Order = Callable[[np.random.Generator], np.ndarray]


class Epochs(Dataset):
    """Samples for `steps` batches: all of them in a new order, again and again.

    Args:
        samples: what one epoch holds.
        order: a new order of all indices from a random generator; default: a plain shuffle.
    """

    def __init__(self, samples: Dataset, steps: int, batch: int, seed: int, order: Order | None = None):
        # one batch more: NeMo refuses to resume after the last step, where a stage may have been killed
        self.samples = samples
        self.total = (steps + 1) * batch
        self.seed = seed
        self.order = order or (lambda random: random.permutation(len(samples)))
        self.epoch, self.indices = -1, np.zeros(0, np.int64)
        self.collate_fn = getattr(samples, "collate_fn", default_collate)

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, index: int):
        epoch, place = divmod(index, len(self.samples))
        if epoch != self.epoch:
            self.indices, self.epoch = self.order(np.random.default_rng([self.seed, epoch])), epoch
        return self.samples[int(self.indices[place])]


class SampleModule(pl.LightningDataModule):
    """Two sets of samples as NeMo's trainer takes them.

    Args:
        train: `Epochs`; heldout: by name, the main one first. Either may have a `collate_fn`.
        seq_length: the longest sample.

    Raises:
        runs.UserError: a held-out set does not fill one global batch.
    """

    num_workers, pin_memory, persistent_workers = 0, False, False

    def __init__(
        self, train: Dataset, heldout: Mapping[str, Dataset], tokenizer, *, key: str, seq_length: int,
        micro_batch_size: int, global_batch_size: int,
    ):  # fmt: skip
        super().__init__()
        self.tokenizer = tokenizer
        self.seq_length = seq_length
        self.init_global_step = 0
        self.data_sampler = MegatronDataSampler(
            seq_len=seq_length, micro_batch_size=micro_batch_size, global_batch_size=global_batch_size, output_log=False
        )
        self.heldout_sets = {name: len(samples) // global_batch_size for name, samples in heldout.items()}
        for name, batches in self.heldout_sets.items():
            if not batches:
                raise runs.UserError(
                    f"{key}.{name} holds {len(heldout[name])} samples of {seq_length:,} tokens, a batch is {global_batch_size}",
                    f"expected one global batch at least: more of them, or a smaller {key}.global_batch_size",
                )
        self.heldout_batches = sum(self.heldout_sets.values())
        whole = [Subset(heldout[name], range(n * global_batch_size)) for name, n in self.heldout_sets.items()]
        self._train_ds, self._validation_ds = train, ConcatDataset(whole)
        self._validation_ds.collate_fn = getattr(next(iter(heldout.values())), "collate_fn", default_collate)

    # NeMo's own, without its constructor, which wants files of tokens.
    train_dataloader = PreTrainingDataModule.train_dataloader
    val_dataloader = PreTrainingDataModule.val_dataloader
    _create_dataloader = PreTrainingDataModule._create_dataloader
    state_dict = PreTrainingDataModule.state_dict
    load_state_dict = PreTrainingDataModule.load_state_dict
    reconfigure_limit_batches = PreTrainingDataModule.reconfigure_limit_batches
