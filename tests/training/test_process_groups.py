"""Processes that wait for another's long work in a collective are not ended by torch."""

from datetime import timedelta
from types import SimpleNamespace

import torch
from torch import distributed

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
