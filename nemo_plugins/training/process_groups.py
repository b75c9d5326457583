"""How the processes of a job wait for each other: in a collective so long, then torch ends them; at the store for ever.

NeMo hands on no time (nemo/lightning/pytorch/strategies/megatron_strategy.py:634; its variable is also the heartbeat of NCCL's
watchdog), so torch's 10 minutes hold for NCCL, and Megatron-Core's 30 for the groups of a layout (parallel_state.py:526). Both
can be shorter than what one process does while the others wait: a calibration that another job is at, a merge of adapters, the
answers of a server.
"""

from __future__ import annotations

import time
from datetime import timedelta

from torch import distributed
from torch.distributed import distributed_c10d

POLL = 1.0  # seconds between two looks at the store, at most


def meet(group) -> None:
    """Wait until all processes of a group are here, however long that takes: before a collective that some come to much later.

    Each adds itself to a count in the group's store and looks now and then how far it is.

    Raises:
        torch.distributed.DistError: the process that keeps the store has died.
    """
    size = distributed.get_world_size(group)
    if size == 1:
        return
    store, began = distributed_c10d._world.pg_map[group][1], time.monotonic()
    here = store.add("here", 1)
    wanted = -(-here // size) * size  # the next multiple: nobody comes again before all were here
    while here < wanted:
        time.sleep(min(POLL, 0.001 + (time.monotonic() - began) / 10))
        here = store.add("here", 0)


def wait(minutes: float) -> None:
    """Let every group that this process is in wait so long, and for its first collective, which meets at the store."""
    longest = timedelta(minutes=minutes)
    for group, (_, store) in list(distributed_c10d._world.pg_map.items()):
        distributed_c10d._set_pg_timeout(longest, group)
        store.set_timeout(longest)


def extend(strategy, minutes: float) -> None:
    """Let the groups that a strategy of NeMo's will make wait so long."""
    set_up = strategy.setup_distributed

    def setup_distributed() -> None:
        set_up()
        wait(minutes)

    strategy.setup_distributed = setup_distributed
