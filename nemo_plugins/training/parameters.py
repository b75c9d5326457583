"""A model's parameters outside of a training step, where its data-parallel copies do not work in step. Imports no NeMo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def settled(parallel) -> Iterator[None]:
    """With all parameters where they belong: those that a distributed optimizer still gathers, and no hooks that would.

    Under an overlapped gathering each forward pass gathers layer by layer, and a copy that has nothing to compute would leave
    the others waiting. Every process calls it.
    """
    waiting = [m for m in parallel if getattr(getattr(m, "module", m), "remove_forward_pre_hook_handles", None)]
    for model in waiting:
        model.module.disable_forward_pre_hook()
    try:
        yield
    finally:
        for model in waiting:
            model.module.enable_forward_pre_hook()
