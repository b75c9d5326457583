"""Items in lists, for what handles several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import TypeVar

Item = TypeVar("Item")


def batches(
    items: Iterable[Item], most: float, size: float = inf, of: Callable[[Item], int] = lambda item: 0
) -> Iterator[list[Item]]:
    """The items in their order, in lists of at most `most`, closed once `of` of their items comes to `size`."""
    batch: list[Item] = []
    held = 0
    for item in items:
        batch.append(item)
        held += of(item)
        if len(batch) == most or held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
