"""Packed dialogues as Megatron's models take them: one item is one window."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nemo_plugins.data.chat import packing
from nemo_plugins.data.chat.block_mask import block_diagonal
from nemo_plugins.data.chat.store import Samples


class Windows(Dataset):
    """Windows of whole dialogues, none of which sees another.

    Args:
        samples: the dialogues; each takes at most `seq_length` places.
        pad: id for places that hold nothing.
        seed: of which dialogues share a window, and of their order.
        packed: pack; else a window holds one dialogue.
        thd: Transformer Engine keeps the dialogues apart by `cu_seqlens`; else a dense mask does.
    """

    def __init__(self, samples: Samples, seq_length: int, pad: int, seed: int, *, packed: bool = True, thd: bool = False):
        self.samples, self.seq_length, self.pad, self.thd = samples, seq_length, pad, thd
        positions = samples.positions
        self.windows = packing.pack(positions, seq_length, seed) if packed else [np.array([i]) for i in range(len(samples))]
        self.fill = packing.fill(positions, self.windows, seq_length)
        self.most = max(map(len, self.windows)) + 2 if self.windows else 0  # entries of cu_seqlens, with the padding's

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """`tokens`, `labels`, `position_ids`, `loss_mask` (the dialogue's weight where a label is learned) `[s]`, and
        `attention_mask` `[1, s, s]`, true where forbidden, or what NeMo makes THD attention's parameters of."""
        arrays = packing.window([self.samples[i] for i in self.windows[index]], self.seq_length, self.pad)
        document = arrays.pop("document")
        item = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if not self.thd:
            return {**item, "attention_mask": block_diagonal(torch.from_numpy(document))[None]}
        ends = torch.from_numpy(packing.cu_seqlens(document))
        padded = torch.full((self.most + 1,), -1, dtype=torch.int32)
        padded[: len(ends)] = ends
        longest = torch.diff(ends).max()
        return {**item, "cu_seqlens": padded, "cu_seqlens_argmin": torch.tensor(len(ends)), "max_seqlen": longest}
