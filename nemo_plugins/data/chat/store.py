"""Encoded samples on disk, mapped into memory: twenty million dialogues need no more of it than one does.

A folder holds `ids.i32` and `learned.u8`, all samples one after the other, and `offsets.npy`, `weights.npy`, `report.json`;
beside them, for each length and seed that it was packed with, `windows-…/` (`packing.stored`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nemo_plugins.data.chat.encode import Sample

COPIED = 1 << 22  # bytes at once


@dataclass(frozen=True)
class Samples:
    """Samples as a list would hold them.

    Attributes:
        folder: that they are in.
        ids: int32, learned: bool, of all samples; sample i lies at `offsets[i]:offsets[i + 1]`.
        weights: fp32 [n].
        report: what became of the rows (`rows.Report.summary`).
    """

    folder: Path
    ids: np.ndarray
    learned: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    report: dict[str, Any]

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, index: int) -> Sample:
        span = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return Sample(np.asarray(self.ids[span]), np.asarray(self.learned[span]), float(self.weights[index]))

    @property
    def positions(self) -> np.ndarray:
        """Places that each sample takes in a window, int64 [n]: its last token is only ever a label."""
        return np.diff(self.offsets) - 1


def write(folder: Path, samples: Iterable[Sample]) -> None:
    """Write samples to an existing folder, all but `report.json`."""
    offsets, weights = [0], []
    with open(folder / "ids.i32", "wb") as ids, open(folder / "learned.u8", "wb") as learned:
        for sample in samples:
            ids.write(sample.ids.astype("<i4").tobytes())
            learned.write(sample.learned.astype(np.uint8).tobytes())
            offsets.append(offsets[-1] + len(sample.ids))
            weights.append(sample.weight)
    np.save(folder / "offsets.npy", np.array(offsets, np.int64))
    np.save(folder / "weights.npy", np.array(weights, np.float32))


def join(folder: Path, parts: Sequence[Path]) -> None:
    """What `write` would have written of the samples of all parts, to an existing folder."""
    for name in ("ids.i32", "learned.u8"):
        with open(folder / name, "wb") as to:
            for part in parts:
                with open(part / name, "rb") as file:
                    shutil.copyfileobj(file, to, COPIED)
    lengths = [np.diff(np.load(part / "offsets.npy", allow_pickle=False)) for part in parts]
    np.save(folder / "offsets.npy", np.concatenate([[0], *lengths]).cumsum(dtype=np.int64))
    np.save(folder / "weights.npy", np.concatenate([np.load(part / "weights.npy", allow_pickle=False) for part in parts]))


def read(folder: Path) -> Samples:
    """What `write` wrote."""
    return Samples(
        folder,
        np.memmap(folder / "ids.i32", "<i4", "r"),
        np.memmap(folder / "learned.u8", np.uint8, "r").view(bool),
        np.load(folder / "offsets.npy", "r", allow_pickle=False),
        np.load(folder / "weights.npy", "r", allow_pickle=False),
        json.loads((folder / "report.json").read_text(encoding="utf-8")),
    )
