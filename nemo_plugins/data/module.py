"""NeMo's pretraining data module with every end of document, and a held-out set that is the same for every model.

What NeMo lacks: its validation set is sampled and shuffled to a length that depends on the training steps, so two runs of
different length would be judged on different text. And where PAD is EOS, as in Bielik's tokenizer, Megatron's dataset takes
each end of a document for padding: the model would see id 0 there and never learn to stop.
"""

from __future__ import annotations

import torch
from megatron.core.datasets.gpt_dataset import GPTDataset
from megatron.core.datasets.indexed_dataset import IndexedDataset
from nemo.collections.llm import PreTrainingDataModule
from torch.utils.data import ConcatDataset, Dataset, Subset

from nemo_plugins.data.chat.dataset import thd


class WholeTextDataset(GPTDataset):
    """Megatron's dataset over text that is never padded: no token stands for padding."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._pad_token_id = -1  # gpt_dataset.py:109 takes the tokenizer's


class Documents(Dataset):
    """Samples with the number of each token's document `[s]`, int32, as `attention_mask` (`platforms.attention`).

    Args:
        samples: of tokens `[s]`.
        eod: the token that ends a document; without one all is one document, number 0.
        thd: Transformer Engine keeps the documents apart: what it is told in the place of their numbers (`chat.dataset.thd`).
    """

    def __init__(self, samples: Dataset, eod: int | None, thd: bool = False):
        self.samples = samples
        self.eod = eod
        self.thd = thd

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        item = self.samples[index]
        number = torch.zeros(len(item["tokens"]), dtype=torch.int32)
        if self.eod is not None:
            number[1:] = (item["tokens"] == self.eod).cumsum(0)[:-1]
        return {**item, **(thd(number.numpy(), len(number) + 1) if self.thd else {"attention_mask": number})}


class Windows(Dataset):
    """Consecutive, non-overlapping windows over the tokens of one `.bin/.idx` pair, in their order.

    Args:
        prefix: path of the pair without its suffix.
        seq_length: tokens of a window.
        count: windows to serve; fewer where the text is shorter.
    """

    def __init__(self, prefix: str, seq_length: int, count: int | None = None):
        self.indexed = IndexedDataset(prefix)
        lengths = self.indexed.index.sequence_lengths
        self.starts = torch.cat([torch.zeros(1, dtype=torch.long), torch.as_tensor(lengths).long().cumsum(0)])
        self.seq_length = seq_length
        available = (int(self.starts[-1]) - 1) // seq_length
        self.count = available if count is None else min(count, available)

    def __len__(self) -> int:
        return self.count

    def tokens(self, start: int, length: int) -> torch.Tensor:
        """`length` tokens from position `start` of the whole text, across documents, `[length]`."""
        document = int(torch.searchsorted(self.starts, start, right=True)) - 1
        offset, parts = start - int(self.starts[document]), []
        while length > 0:
            part = torch.from_numpy(self.indexed.get(document, offset=offset).astype("int64"))[:length]
            parts.append(part)
            length, document, offset = length - len(part), document + 1, 0
        return torch.cat(parts)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        window = self.tokens(index * self.seq_length, self.seq_length + 1)
        return {
            "tokens": window[:-1],
            "labels": window[1:],
            "loss_mask": torch.ones(self.seq_length),
            "position_ids": torch.arange(self.seq_length),
        }


class TextDataModule(PreTrainingDataModule):
    """Training text as NeMo samples it (shuffled, its position kept in checkpoints); held-out text as `Windows`.

    Args:
        train: prefixes, or weights and prefixes in turn, as NeMo's `paths`.
        heldout: prefixes of the held-out texts by name, the main one first, with the global batches of each to serve.
        **nemo: what `PreTrainingDataModule` takes; with `reset_attention_mask` a training window's tokens see nothing of the
            documents before their own. Positions run on: RoPE knows distances alone. Held-out windows stay whole. Under
            Transformer Engine that wants micro-batches of one sample: its packed attention knows no batch.
    """

    create_attention_mask: bool
    reset_attention_mask: bool

    def __init__(self, train: list[str], heldout: dict[str, tuple[str, int]], **nemo):
        main = [next(iter(heldout.values()))[0]]
        paths = {"train": train, "validation": main, "test": main}
        super().__init__(paths=paths, split=None, num_workers=0, pin_memory=False, output_log=False, **nemo)
        self.build_kwargs["blend_per_split"][1:] = [None, None]  # held-out text is not sampled: see `build`
        # NeMo asks for masks `[1, s, s]` where Transformer Engine is absent (pre_training.py:242)
        self.numbered = self.create_attention_mask
        self.create_attention_mask = False
        self.apart = self.reset_attention_mask
        self.reset_attention_mask = False
        self.heldout_texts = dict(heldout)
        self.heldout_sets = {name: batches for name, (_, batches) in heldout.items()}
        self.heldout_batches = sum(self.heldout_sets.values())

    def build(self, trainer_max_steps: int, **_limits) -> None:
        """Train set of `max_steps` global batches at least; validation and test set are the held-out windows."""
        from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder

        size = self.data_sampler.global_batch_size
        samples = int(trainer_max_steps) * size
        sampled, _, _ = BlendedMegatronDatasetBuilder(
            WholeTextDataset, [samples, None, None], is_built_on_rank=lambda: True, config=self.gpt_dataset_config
        ).build()
        # one batch more: NeMo refuses to resume after the last step, where a stage may have been killed
        self._train_ds = ConcatDataset([sampled, Subset(sampled, range(size))])
        self._validation_ds = ConcatDataset(
            Windows(prefix, self.seq_length, batches * size) for prefix, batches in self.heldout_texts.values()
        )
        if self.numbered:
            self._train_ds = Documents(self._train_ds, self.tokenizer.eod if self.apart else None)
            self._validation_ds = Documents(self._validation_ds, None)
        elif self.apart:
            self._train_ds = Documents(self._train_ds, self.tokenizer.eod, thd=True)
        self._test_ds = self._validation_ds
