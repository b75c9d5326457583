"""How long the processes of a job wait for each other in a collective before torch ends them.

NeMo hands on no time (nemo/lightning/pytorch/strategies/megatron_strategy.py:634; its variable is also the heartbeat of NCCL's
watchdog), so torch's 10 minutes hold for NCCL, and Megatron-Core's 30 for the groups of a layout (parallel_state.py:526). Both
are shorter than what one process does while the others wait: a calibration that another job is at, an export to a server of
completions, its answers.
"""

from __future__ import annotations

from datetime import timedelta

from torch.distributed import distributed_c10d


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
