"""How a file of a recorded teacher holds its samples: the k most likely tokens of each position, or N tokens drawn at random.

    most likely     indices   [n, s, k]      uint16 where the vocabulary has at most 65,536 tokens, else int32
                    logprobs  [n, s, k]      fp32, not rounded: a distillation from files has the loss of one beside its teacher
                    tail      [n, s]         fp32, log of all other tokens' mass
    drawn           ids       [bytes]        of each position its most likely token and each other that was drawn, once, in
                                             ⌈log₂ v⌉ bits, highest bit first; a sample begins at a whole byte
                    starts    [n + 1]        int64, the byte of `ids` where each sample begins
                    distinct  [n, s, ⌈N/8⌉]  a bit a draw: whether it is another token than the one before it
                    entropy   [n, s]         uint16, the teacher's, in 65,535ths of log v

The draws of a position are sorted, those of its most likely token first, so that N bits say how often each token was drawn.
Bytes are reckoned without torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

UINT16 = 2**16  # indices below it take two bytes


@dataclass(frozen=True)
class TopKRows:
    """The k most likely tokens, and the mass of all others.

    Attributes:
        tensors: names in a file, in the order in which they are hashed.
        exact: whether each position takes as many bytes as any other.
    """

    k: int
    vocabulary: int
    tensors: ClassVar[tuple[str, ...]] = ("indices", "logprobs", "tail")
    exact: ClassVar[bool] = True

    @property
    def what(self) -> str:
        """What is kept of each position, for a message."""
        return f"the {self.k} most likely tokens of each"

    @property
    def override(self) -> str:
        """The key that asks for it, with its value."""
        return f"distill.loss.top_k={self.k}"

    def bytes_per_token(self) -> int:
        """Besides, each sample takes its tokens' hash and each file a header below a KiB."""
        return self.k * ((2 if self.vocabulary <= UINT16 else 4) + 4) + 4

    def least_bytes(self, seq_length: int) -> int:
        """Of a sample."""
        return seq_length * self.bytes_per_token()

    def shapes(self) -> dict[str, list[int]]:
        """Of what a recording writes and a distillation reads, by name, beyond `[n, s]`."""
        return {"indices": [self.k], "logprobs": [self.k], "tail": []}

    def pack(self, samples: dict[str, Tensor]) -> dict[str, Tensor]:
        """A file's `tensors` of some samples, on the CPU."""
        import torch

        narrow = torch.uint16 if self.vocabulary <= UINT16 else torch.int32
        return {**samples, "indices": samples["indices"].to(narrow)}

    def unpack(self, file: Any, row: int) -> dict[str, Tensor]:
        """One sample of an open file: `indices` `[s, …]` in int32, the most likely token first; the others in fp32."""
        import torch

        types = {"indices": torch.int32, "logprobs": torch.float32, "tail": torch.float32}
        rows = {name: file.get_slice(name)[row] for name in types}
        return {name: rows[name].to(dtype, copy=True) for name, dtype in types.items()}  # copies, which outlive the file


@dataclass(frozen=True)
class SampledRows:
    """Tokens drawn with replacement, the most likely token and the entropy. What the methods are: see `TopKRows`."""

    draws: int
    vocabulary: int
    tensors: ClassVar[tuple[str, ...]] = ("ids", "starts", "distinct", "entropy")
    exact: ClassVar[bool] = False

    @property
    def what(self) -> str:
        return f"{self.draws} tokens drawn for each"

    @property
    def override(self) -> str:
        return f"distill.loss.draws={self.draws}"

    @property
    def bits(self) -> int:
        """Of a token's id."""
        return max(1, (self.vocabulary - 1).bit_length())

    @property
    def step(self) -> float:
        """Of the entropy, nats."""
        return math.log(max(2, self.vocabulary)) / (UINT16 - 1)

    @property
    def fixed(self) -> int:
        """Bytes of a position besides its ids."""
        return math.ceil(self.draws / 8) + 2

    def bytes_per_token(self) -> float:
        """At most: where no two draws agree, nor one with the most likely token. Each sample's place takes nine at most."""
        return self.fixed + (1 + self.draws) * self.bits / 8

    def least_bytes(self, seq_length: int) -> int:
        return seq_length * self.fixed + math.ceil(seq_length * self.bits / 8)

    def shapes(self) -> dict[str, list[int]]:
        return {"indices": [1 + self.draws], "entropy": []}

    def pack(self, samples: dict[str, Tensor]) -> dict[str, Tensor]:
        import numpy as np
        import torch

        indices = samples["indices"].numpy()
        best, draws = indices[..., :1], indices[..., 1:]
        draws = np.sort(np.where(draws == best, -1, draws), -1)
        ordered = np.concatenate([best, np.where(draws == -1, best, draws)], -1)
        first = np.concatenate([np.ones_like(best, bool), ordered[..., 1:] != ordered[..., :-1]], -1)
        ids = [_packed(of[is_first], self.bits) for of, is_first in zip(ordered, first, strict=True)]
        tensors = {
            "ids": np.concatenate(ids),
            "starts": np.cumsum([0, *map(len, ids)]),
            "distinct": np.packbits(first[..., 1:], -1),
            "entropy": (samples["entropy"].numpy() / self.step).round().clip(0, UINT16 - 1).astype(np.uint16),
        }
        return {name: torch.from_numpy(value) for name, value in tensors.items()}

    def unpack(self, file: Any, row: int) -> dict[str, Tensor]:
        import numpy as np
        import torch

        start, stop = file.get_slice("starts")[row : row + 2].tolist()
        distinct = np.unpackbits(file.get_slice("distinct")[row].numpy(), -1, count=self.draws).astype(bool)
        first = np.concatenate([np.ones_like(distinct[:, :1]), distinct], -1)
        ids = _unpacked(file.get_slice("ids")[start:stop].numpy(), int(first.sum()), self.bits)
        return {
            "indices": torch.from_numpy(ids[first.cumsum() - 1].reshape(first.shape)),
            "entropy": file.get_slice("entropy")[row].float() * self.step,
        }


Rows: TypeAlias = TopKRows | SampledRows


def form(top_k: int | None, draws: int | None, vocabulary: int) -> Rows:
    """Of a record that keeps the `top_k` most likely tokens, or `draws` in their place. Raises ValueError: neither is given."""
    if draws is not None:
        return SampledRows(draws, vocabulary)
    if top_k is not None:
        return TopKRows(top_k, vocabulary)
    raise ValueError("a record has top_k or draws")


def _packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers of so many bits one after the other, the highest bit first, `[bytes]` in uint8."""
    import numpy as np

    return np.packbits((values[:, None] >> np.arange(bits)[::-1]) & 1)


def _unpacked(packed: np.ndarray, count: int, bits: int) -> np.ndarray:
    """The `count` integers that `_packed` was given, in int32."""
    import numpy as np

    columns = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    return columns @ (1 << np.arange(bits, dtype=np.int32)[::-1])
