"""The held-out split: drawn by each document's own hash, with nothing alike on its two sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

from nemo_plugins.data.corpus.words import shingles, words


def is_heldout(text: str, share: float, seed: int) -> bool:
    """Whether a document is held out. Depends on its words alone: not on its place, the number of files, or other documents.

    Args:
        share: of documents that are, from 0 to 1.
    """
    drawn = blake2b(" ".join(words(text)).encode(), digest_size=8, key=f"heldout {seed}".encode()).digest()
    return int.from_bytes(drawn) < share * 2**64


class HeldoutGuard:
    """Keeps what is nearly a held-out document out of the training text, exactly: MinHash misses a pair now and then.

    Memory goes with the held-out text, which is small; a training document costs time in proportion to its length and to
    what it shares with held-out documents.
    """

    def __init__(self, heldout: Iterable[str], threshold: float = 0.7, size: int = 5):
        """`threshold`: Jaccard similarity of the sets of `size`-word shingles from which two documents are alike."""
        self.threshold, self.size = threshold, size
        self._holders: dict[int, list[int]] = {}
        self._sizes: list[int] = []
        for number, text in enumerate(heldout):
            found = self._shingles(text)
            self._sizes.append(len(found))
            for shingle in found:
                self._holders.setdefault(shingle, []).append(number)

    def alike(self, text: str) -> int | None:
        """Number of the held-out document that this one is most like, None if none reaches the threshold."""
        found = self._shingles(text)
        shared = Counter(number for shingle in found for number in self._holders.get(shingle, ()))
        similarity = {number: common / (len(found) + self._sizes[number] - common) for number, common in shared.items()}
        best = max(similarity, key=lambda number: (similarity[number], -number), default=None)
        return best if best is not None and similarity[best] >= self.threshold else None

    def _shingles(self, text: str) -> set[int]:
        return {int.from_bytes(blake2b(one.encode(), digest_size=8).digest()) for one in shingles(text, self.size)}
