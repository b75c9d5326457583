"""Work of one process that the others of its group wait for, also where it fails: none stays behind in a collective."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

from torch import distributed

from nemo_plugins import runs
from nemo_plugins.alignment.rollouts import Away
from nemo_plugins.training import process_groups

Made = TypeVar("Made")


def outcome(work: Callable[[], Made]) -> Made | Exception:
    """What `work` gives, or an error of ours that it raised, to be told to others."""
    try:
        return work()
    except (Away, runs.Failed, runs.UserError) as error:
        return error


def on_first_rank(group, work: Callable[[], Made]) -> Made:
    """What `work` gives on the first process of a group, on all of them.

    Raises on all what it raised there; an error that is not ours as runs.Failed with its traceback.
    """
    results: list = [None]
    if distributed.get_rank(group) == 0:
        try:
            results = [outcome(work)]
        except Exception:
            results = [runs.Failed(traceback.format_exc())]
    process_groups.meet(group)
    if distributed.get_world_size(group) > 1:
        distributed.broadcast_object_list(results, group=group, group_src=0)
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]
