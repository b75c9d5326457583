"""Which documents are held out, and a guard that keeps their near-duplicates out of training.

Held out is decided document by document from a hash of its words: the same in every order, shard count and process, and what
is held out at 1 % is also held out at 2 %. Copies that differ in case or punctuation fall on the same side.

Near-duplicates may not: MinHash-LSH misses a pair of Jaccard similarity 0.7 in 44 of 100 cases, 0.8 in 8, 0.9 in 0.04
(nemo_plugins.data.corpus.duplicates). Held-out text is small, so the guard compares every training document with all of
it, exactly. What it does not see: a held-out text quoted in a training document that is much longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from nemo_plugins.data.corpus.words import shingles, words
from nemo_plugins.runs.errors import UserError

THRESHOLD = 0.7  # near 0.72, where MinHash-LSH with 14 x 8 hashes finds half of the pairs
SHINGLE_WORDS = 5


def is_heldout(text: str, share: float, seed: int) -> bool:
    """Whether a document is held out.

    Args:
        share: of the documents, 0 to 1; 0 holds out none.
        seed: another seed is another split.
    Raises: UserError where `share` is outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise UserError(f"share of held-out documents: {share}", "expected: a number from 0 to 1", "0.01 is usual")
    compared = " ".join(words(text)) or " ".join(text.split())
    digest = hashlib.blake2b(compared.encode("utf-8", "surrogatepass"), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "big") < share * 2**64


class HeldoutGuard:
    """Finds training documents that nearly repeat a held-out one.

    Args:
        heldout: texts of all held-out documents.
        threshold: Jaccard similarity of the sets of runs of words from which on two documents are near-duplicates.
    A document with fewer words than a run is one run, so only its equal is near it.
    Raises: UserError where `threshold` is outside (0, 1].

    Picklable; 12 bytes per distinct run of words of the held-out text, about 1.5 bytes a byte of it.
    """

    def __init__(self, heldout: Iterable[str], threshold: float = THRESHOLD):
        if not 0 < threshold <= 1:
            raise UserError(f"held-out guard: threshold={threshold}", "expected: above 0, up to 1", f"{THRESHOLD} is usual")
        self.threshold = threshold
        sets = [shingles(text, SHINGLE_WORDS) for text in heldout]
        self.sizes = np.array([len(one) for one in sets], dtype=np.int64)
        runs = np.concatenate([*sets, np.empty(0, np.uint64)])
        order = np.argsort(runs, kind="stable")
        self.runs = runs[order]
        self.owners = np.repeat(np.arange(len(sets), dtype=np.uint32), self.sizes)[order]

    def near(self, text: str) -> tuple[int, float] | None:
        """(number of the nearest held-out document as given, its Jaccard similarity), None below the threshold."""
        own = shingles(text, SHINGLE_WORDS)
        first, last = np.searchsorted(self.runs, own, "left"), np.searchsorted(self.runs, own, "right")
        hit = np.flatnonzero(last > first)
        if not len(hit):
            return None
        owners = np.concatenate([self.owners[first[at] : last[at]] for at in hit])
        candidates, common = np.unique(owners, return_counts=True)
        similarity = common / (len(own) + self.sizes[candidates] - common)
        best = int(similarity.argmax())
        return (int(candidates[best]), float(similarity[best])) if similarity[best] >= self.threshold else None
