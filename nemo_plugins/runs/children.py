"""Processes that a stage starts end with it, however it ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h
WORKER = "MINITRON_WORKER"  # in the environment of a local worker, which a launcher that was killed could not end


def end_with_parent() -> None:
    """In a process that multiprocessing spawned, or in a local worker, ask the kernel to kill it when its parent dies.

    Saving a checkpoint spawns a manager (megatron/core/dist_checkpointing/strategies/filesystem_async.py) that only an orderly
    exit ends: after a SIGKILL it would stay for ever, with some 300 MB. It imports the recipe's file, and with it this one.
    """
    # True while a spawned process imports its parent's main file; `parent_process()` is not known until afterwards
    if getattr(multiprocessing.current_process(), "_inheriting", False) or os.environ.pop(WORKER, None):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
