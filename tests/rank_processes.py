"""Processes of a gloo group for a test."""

import multiprocessing
import sys
from collections.abc import Callable

from torch.multiprocessing import start_processes


def run_ranks(one_rank: Callable[..., None], ranks: int, *arguments) -> None:
    """Call `one_rank(rank, ranks, *arguments)` in as many processes, which fail the test where one fails.

    They are forked from a process that has imported what the tests have, NeMo takes ten seconds, and has no threads: a fork of
    this one, in which other tests have left some, may crash.
    """
    multiprocessing.set_forkserver_preload(["nemo_plugins.runs.preload" if "nemo" in sys.modules else "torch"])
    start_processes(one_rank, (ranks, *arguments), nprocs=ranks, start_method="forkserver")
