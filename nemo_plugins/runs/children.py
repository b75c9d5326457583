"""Processes that a stage starts run the same code, and end with it, however it ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal

from nemo_plugins.configs.store import REPOSITORY

PR_SET_PDEATHSIG = 1  # linux/prctl.h
WORKER = "MINITRON_WORKER"  # in the environment of a local worker, which a launcher that was killed could not end


def end_with_parent() -> None:
    """In a process that multiprocessing spawned, or in a local worker, ask the kernel to kill it when its parent dies.

    An asynchronous save, as a conversion's, spawns a manager (megatron/core/dist_checkpointing/strategies/filesystem_async.py)
    that only an orderly exit ends: after a SIGKILL it would stay for ever. It imports the recipe's file, and with it this one.
    """
    # True while a spawned process imports its parent's main file; `parent_process()` is not known until afterwards
    if getattr(multiprocessing.current_process(), "_inheriting", False) or os.environ.pop(WORKER, None):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def import_this_code() -> None:
    """Let processes that this one starts import the code that it runs, before any copy that is installed.

    A recipe puts its own repository first on its path, and `python -m nemo_plugins.…` knows nothing of that: a job that runs a
    snapshot of the code would start the environment's.
    """
    given = os.environ.get("PYTHONPATH", "")
    if given.split(os.pathsep)[0] != str(REPOSITORY):
        os.environ["PYTHONPATH"] = f"{REPOSITORY}{os.pathsep}{given}" if given else str(REPOSITORY)
