"""Texts that resemble each other by a known share of their runs of words."""

import random


def sets(text: str) -> frozenset:
    """Runs of 5 words, by other means than the code's."""
    tokens = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return frozenset(zip(*(tokens[start:] for start in range(5)), strict=False))


def jaccard(one: frozenset, other: frozenset) -> float:
    return len(one & other) / len(one | other)


def varied(text: str, similarity: float, rng: random.Random) -> str:
    """The text with its end replaced so that about the given Jaccard similarity is left."""
    tokens = text.split()
    keep = round(len(tokens) * 2 * similarity / (1 + similarity))
    return " ".join(tokens[:keep] + [f"obcy{rng.randrange(10**6)}" for _ in tokens[keep:]])
