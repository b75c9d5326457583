"""Whether the processes of a job reach each other: an all-reduce for about a second, NCCL on GPUs and gloo on CPUs.

srun python -m nemo_plugins.platforms.network       # MASTER_ADDR and MASTER_PORT in the environment

A node whose network is sick is found before a model is loaded. Ends with 1 where a sum is wrong or nobody answers in a minute.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta

PATIENCE = timedelta(seconds=60)
SECONDS = 1.0  # of all-reduces
VALUES = {"nccl": 1 << 26, "gloo": 1 << 18}  # fp32 values of one: 256 MiB, 1 MiB


def main() -> int:
    import torch
    from torch import distributed

    rank, world, local = (int(os.environ[key]) for key in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))
    where = f"rank {rank} on {os.environ.get('SLURMD_NODENAME', 'this node')}"
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    device = torch.device("cuda", local) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group(backend, rank=rank, world_size=world, timeout=PATIENCE)
        values, times = torch.full((VALUES[backend],), float(rank + 1), device=device), []
        for _ in range(64):
            sent = values.clone()
            start = time.monotonic()
            distributed.all_reduce(sent)
            total = sent.double().sum().item()  # waits for it
            times.append(time.monotonic() - start)
            if total != VALUES[backend] * world * (world + 1) / 2:
                print(f"{where}: the sum of all ranks came to {total / VALUES[backend]:g}, not {world * (world + 1) / 2:g}")
                return 1
            go_on = torch.tensor([float(sum(times) < SECONDS)], device=device)  # as rank 0 says
            distributed.broadcast(go_on, 0)
            if not go_on.item():
                break
    except RuntimeError as error:
        print(f"{where}: {str(error).splitlines()[0]}")
        return 1
    # what each link carries: nccl-tests' "bus bandwidth"
    rate = 4 * VALUES[backend] * 2 * (world - 1) / world / min(times) / 1e9
    size = 4 * VALUES[backend] >> 20
    print(f"network: {world} processes, {backend}, {rate:.1f} GB/s on each link in an all-reduce of {size} MiB")
    distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
