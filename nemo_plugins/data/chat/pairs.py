"""Preference pairs as Megatron's models take them: one item is a pair, so that no micro-batch can split it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nemo_plugins.data.chat import packing
from nemo_plugins.data.chat.store import Samples

NEAR = 16  # own choice: global batches that are sorted by length together; more waste less padding and shuffle less


class Pairs(Dataset):
    """Items `tokens`, `labels`, `position_ids`, `loss_mask` `[2, s]` with s the longer of the two, and `index`.

    Args:
        samples: chosen and rejected in turn (`sets.pairs`).
        multiple: micro-batches are padded to a multiple of it.

    Attributes:
        reference: called with a pair's index and s, gives the labels' log-probabilities under the reference, fp32 `[2, s]`.
    """

    def __init__(self, samples: Samples, pad: int, multiple: int = 8):
        self.samples = samples
        self.pad = pad
        self.multiple = multiple
        self.reference: Callable[[int, int], Tensor] | None = None
        self.lengths = samples.positions.reshape(-1, 2).max(1)

    def __len__(self) -> int:
        return len(self.samples) // 2

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        both = [packing.window([self.samples[i]], int(self.lengths[index]), self.pad) for i in (2 * index, 2 * index + 1)]
        names = ("tokens", "labels", "position_ids", "loss_mask")
        item = {name: torch.from_numpy(np.stack([one[name] for one in both])) for name in names}
        if self.reference:
            item["reference"] = self.reference(index, int(self.lengths[index]))
        return {**item, "index": torch.tensor(index)}

    def collate_fn(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """A micro-batch `[b, 2, s]`, padded on the right to the longest; what is added counts nowhere."""
        longest = max(item["tokens"].shape[-1] for item in items)
        length = -(-longest // self.multiple) * self.multiple

        def padded(name: str) -> Tensor:
            fill = self.pad if name in ("tokens", "labels") else 0
            return torch.stack([torch.nn.functional.pad(i[name], (0, length - i[name].shape[-1]), value=fill) for i in items])

        return {name: torch.stack([item[name] for item in items]) if name == "index" else padded(name) for name in items[0]}

    def by_length(self, batch: int) -> Callable[[np.random.Generator], np.ndarray]:
        """An order for `Epochs`: shuffled, then pairs of like length brought together, `NEAR` batches of them at a time."""

        def order(random: np.random.Generator) -> np.ndarray:
            shuffled = random.permutation(len(self))
            near = NEAR * batch
            groups = [shuffled[at : at + near] for at in range(0, len(shuffled), near)]
            ordered = np.concatenate([group[np.argsort(self.lengths[group], kind="stable")] for group in groups])
            whole = len(ordered) // batch * batch
            batches = ordered[:whole].reshape(-1, batch)
            return np.concatenate([batches[random.permutation(len(batches))].reshape(-1), ordered[whole:]])

        return order

    def padding(self, batch: int, order: np.ndarray) -> float:
        """Share of the places of micro-batches of `batch` pairs, in this order, that hold no token."""
        places = held = 0
        for at in range(0, len(order), batch):
            group = order[at : at + batch]
            places += 2 * len(group) * (-(-int(self.lengths[group].max()) // self.multiple) * self.multiple)
            held += int(self.samples.positions.reshape(-1, 2)[group].sum())
        return 1 - held / places
