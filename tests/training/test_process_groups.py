"""Processes that wait for another's long work are not ended by torch, and end where the other does."""

import os
import socket
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, multiprocessing
from torch.distributed import distributed_c10d

from nemo_plugins.training import process_groups


def test_all_groups_of_a_strategy_wait_as_long_as_is_asked():
    """Also those of Megatron-Core's, which have a time of their own."""
    groups, store = [], distributed.HashStore()

    def setup_distributed():
        distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        groups.extend([distributed.group.WORLD, distributed.new_group([0], timeout=timedelta(minutes=30))])

    def waits() -> list[timedelta]:
        return [group._get_backend(torch.device("cpu")).options._timeout for group in groups]

    strategy = SimpleNamespace(setup_distributed=setup_distributed)
    process_groups.extend(strategy, minutes=90)
    try:
        strategy.setup_distributed()
        assert waits() == 2 * [timedelta(minutes=90)]
        assert store.timeout == timedelta(minutes=90)  # where a group's first collective waits
    finally:
        distributed.destroy_process_group()


def of_two(rank, port):
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for _ in range(2):
        process_groups.meet(distributed.group.WORLD)
    if rank == 0:  # it keeps the store, until the other has come for the third time
        while distributed_c10d._get_default_store().add("here", 0) < 5:
            time.sleep(0.1)
        os._exit(0)
    with pytest.raises(distributed.DistError):
        process_groups.meet(distributed.group.WORLD)
    os._exit(0)  # no group is left to be taken down


@pytest.mark.long  # two processes that import torch
def test_who_waits_for_a_process_that_died_does_not_wait_on():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(of_two, (port,), nprocs=2)
