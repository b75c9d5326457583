"""Whole dialogues packed into windows: best-fit decreasing, in which no sample is split and none sees another.

Sorted from long to short, each sample goes into the fullest window that still holds it (Johnson 1974: at most 11/9 of the
fewest windows plus six, and on dialogues that are short against the window hardly any place is lost). Equal lengths, and the
windows in the end, are shuffled by the seed. For tens of millions of samples it takes minutes and gigabytes, so it is done
once, and all processes of a job read the file.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized

import numpy as np

from nemo_plugins.data.chat import store
from nemo_plugins.data.chat.encode import Sample
from nemo_plugins.runs import locks
from nemo_plugins.runs.atomic import whole

FORMAT = 1  # raise when other windows come out: older folders are then packed again
PADDING = -1  # document index of places that hold nothing


def pack(positions: np.ndarray, seq_length: int, seed: int) -> list[np.ndarray]:
    """Which samples share a window.

    Args:
        positions: places that each sample takes, [n]; at most `seq_length` and at least 1.
        seq_length: places of a window.
        seed: the same seed gives the same windows in the same order.
    Returns: indices of the samples of each window; every sample is in exactly one.
    Raises:
        ValueError: a sample that fits no window.
    """
    positions = np.asarray(positions, np.int64)
    if len(positions) and (positions.max() > seq_length or positions.min() < 1):
        raise ValueError(f"expected samples of 1 to {seq_length} places, got {positions.min()} to {positions.max()}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(positions))
    order = order[np.argsort(-positions[order], kind="stable")]
    windows: list[list[int]] = []
    free: list[list[int]] = [[] for _ in range(seq_length + 1)]  # windows by the places they have left
    some = 0  # bit r is set where a window has r places left: the fullest that fits is the lowest bit from the length on
    for sample, length in zip(order.tolist(), positions[order].tolist(), strict=True):
        if fits := some >> length:
            left = length + (fits & -fits).bit_length() - 1
            window = free[left].pop()
            if not free[left]:
                some ^= 1 << left
            windows[window].append(sample)
        else:
            left, window = seq_length, len(windows)
            windows.append([sample])
        if left > length:
            free[left - length].append(window)
            some |= 1 << (left - length)
    for window in windows:
        rng.shuffle(window)  # or each would begin with its longest
    return [np.array(windows[i], np.int64) for i in rng.permutation(len(windows))]


class PackedWindows:
    """Indices of the samples of each window.

    Args:
        order: of all windows one after the other, int64 [n].
        ends: where each window ends in it, int64 [windows].
    """

    def __init__(self, order: np.ndarray, ends: np.ndarray):
        self.order, self.ends = order, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(self.order[self.ends[index - 1] if index else 0 : self.ends[index]])

    @property
    def largest(self) -> int:
        """Samples of the fullest window; 0 where there is none."""
        return int(np.diff(self.ends, prepend=0).max(initial=0))


def alone(samples: int) -> PackedWindows:
    """A window for each sample."""
    return PackedWindows(np.arange(samples), np.arange(1, samples + 1))


def stored(samples: store.Samples, seq_length: int, seed: int) -> PackedWindows:
    """The windows of `pack`, beside the samples: packed by the first process that asks, mapped into memory by all."""
    to = samples.folder / f"windows-{FORMAT}-{seq_length}-{seed}"
    with open(samples.folder.with_name(f"{samples.folder.name}.lock"), "w") as lock:
        locks.take(lock)
        if not to.exists():
            packed = pack(samples.positions, seq_length, seed)
            with whole(to) as folder:
                np.save(folder / "order.npy", np.concatenate([*packed, np.zeros(0, np.int64)]))
                np.save(folder / "ends.npy", np.cumsum([len(one) for one in packed], dtype=np.int64))
    return PackedWindows(*(np.load(to / f"{name}.npy", "r", allow_pickle=False) for name in ("order", "ends")))


def fill(positions: np.ndarray, windows: Sized, seq_length: int) -> float:
    """Share of all places that hold a token."""
    return float(np.sum(positions)) / (len(windows) * seq_length) if windows else 0.0


def window(samples: Sequence[Sample], seq_length: int, pad: int) -> dict[str, np.ndarray]:
    """The arrays of one window, s = `seq_length`.

    Returns:
        tokens: int64 [s]; after the last sample `pad`.
        labels: int64 [s], the token that follows in the same sample.
        loss_mask: fp32 [s], the sample's weight where the label is learned, else 0. Σ loss·loss_mask / Σ loss_mask is the
            weighted mean; dividing by the count of places above 0 instead lets light samples count less (WICEL).
        position_ids: int64 [s], from 0 in each sample and in the padding.
        document: int32 [s], index of the sample in the window, `PADDING` after the last.
    Raises:
        ValueError: the samples do not fit.
    """
    if (taken := sum(sample.positions for sample in samples)) > seq_length:
        raise ValueError(f"expected samples of at most {seq_length} places together, got {taken}")
    arrays = {
        "tokens": np.full(seq_length, pad, np.int64),
        "labels": np.full(seq_length, pad, np.int64),
        "loss_mask": np.zeros(seq_length, np.float32),
        "position_ids": np.zeros(seq_length, np.int64),
        "document": np.full(seq_length, PADDING, np.int32),
    }
    at = 0
    for index, sample in enumerate(samples):
        span = slice(at, at + sample.positions)
        arrays["tokens"][span] = sample.ids[:-1]
        arrays["labels"][span] = sample.ids[1:]
        arrays["loss_mask"][span] = sample.learned[1:] * np.float32(sample.weight)
        arrays["position_ids"][span] = np.arange(sample.positions)
        arrays["document"][span] = index
        at = span.stop
    arrays["position_ids"][at:] = np.arange(seq_length - at)
    return arrays


def cu_seqlens(document: np.ndarray) -> np.ndarray:
    """Where each document of a window begins and the last one ends, int32 [documents + 1], as packed (THD) attention takes it.

    Padding counts as a document, so the last entry is always the window's length.
    """
    begins = np.flatnonzero(np.diff(document, prepend=document[0] - 1))
    return np.append(begins, len(document)).astype(np.int32)
