"""Packed dialogues as Megatron's models take them: one item is one window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from nemo_plugins.data.chat import packing
from nemo_plugins.data.chat.store import Samples


def thd(document: np.ndarray, most: int) -> dict[str, Tensor]:
    """What NeMo makes THD attention's parameters of, in one size for all windows.

    Args:
        document: number of each place's document `[s]`.
        most: entries of `cu_seqlens` that a window may have.
    """
    ends = torch.from_numpy(packing.cu_seqlens(document))
    padded = torch.full((most + 1,), -1, dtype=torch.int32)
    padded[: len(ends)] = ends
    return {"cu_seqlens": padded, "cu_seqlens_argmin": torch.tensor(len(ends)), "max_seqlen": torch.diff(ends).max()}


class DialogueWindows(Dataset):
    """Windows of whole dialogues, none of which sees another.

    Args:
        samples: the dialogues; each takes at most `seq_length` places.
        pad: id for places that hold nothing.
        seed: of which dialogues share a window, and of their order.
        packed: pack; else a window holds one dialogue.
        thd: Transformer Engine keeps the dialogues apart by `cu_seqlens`; else `platforms.attention` does by their numbers.
    """

    def __init__(self, samples: Samples, seq_length: int, pad: int, seed: int, *, packed: bool = True, thd: bool = False):
        self.samples = samples
        self.seq_length = seq_length
        self.pad = pad
        self.thd = thd
        self.windows = packing.stored(samples, seq_length, seed) if packed else packing.alone(len(samples))
        self.fill = packing.fill(samples.positions, self.windows, seq_length)
        self.most = self.windows.largest + 2  # entries of cu_seqlens, with the padding's

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """`tokens`, `labels`, `position_ids`, `loss_mask` (the dialogue's weight where a label is learned) `[s]`, and
        `attention_mask`, the number of each place's dialogue `[s]`, or what `thd` gives."""
        arrays = packing.window([self.samples[int(i)] for i in self.windows[index]], self.seq_length, self.pad)
        document = arrays.pop("document")
        item = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {**item, **(thd(document, self.most) if self.thd else {"attention_mask": torch.from_numpy(document)})}

    def collate_fn(self, items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """A micro-batch of b windows: `[b, s]`, or one row `[1, b * s]` for THD attention, which knows no batch."""
        if not self.thd:
            return default_collate(items)
        joined = {
            name: torch.cat([item[name] for item in items])[None] for name in ("tokens", "labels", "position_ids", "loss_mask")
        }
        ends = [torch.zeros(1, dtype=torch.int32)]
        for place, item in enumerate(items):
            ends.append(item["cu_seqlens"][1 : item["cu_seqlens_argmin"]] + place * self.seq_length)
        ends = torch.cat(ends)
        padded = torch.full((1, len(items) * self.most + 1), -1, dtype=torch.int32)
        padded[0, : len(ends)] = ends
        longest = torch.stack([item["max_seqlen"] for item in items]).max()
        return {**joined, "cu_seqlens": padded, "cu_seqlens_argmin": torch.tensor([len(ends)]), "max_seqlen": longest[None]}
