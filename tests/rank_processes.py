"""Processes of a gloo group for a test."""

from collections.abc import Callable

import torch
from torch import multiprocessing


def run_ranks(one_rank: Callable[..., None], ranks: int, *arguments) -> None:
    """Call `one_rank(rank, ranks, *arguments)` in as many processes, which fail the test where one fails.

    They are forked, as importing NeMo anew takes each ten seconds; autograd's threads for GPUs cannot be.
    """
    method = "spawn" if torch.cuda.is_available() else "fork"
    multiprocessing.start_processes(one_rank, (ranks, *arguments), nprocs=ranks, start_method=method)
