"""Text and dialogues in one training order."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor
from torch.utils.data import Dataset

OF_A_BLEND = "dataset_id"  # Megatron's blend of several texts adds it to a sample, which text alone and dialogues lack


class Mixed(Dataset):
    """Samples of text with windows of dialogues spread evenly over them: of the first n, ⌊n · share⌋ are dialogues.

    What sample n is goes by n alone, so that a training that goes on, on any number of processes, has the same. Both kinds come
    in their own order, the text in that of a training on text alone.
    """

    def __init__(self, text: Dataset, dialogues: Dataset, share: float):
        self.text = text
        self.dialogues = dialogues
        self.share = share

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, index: int) -> Mapping[str, Tensor]:
        before, after = (math.floor(place * self.share) for place in (index, index + 1))
        if after > before:
            return self.dialogues[before]
        return {name: value for name, value in self.text[index - before].items() if name != OF_A_BLEND}
