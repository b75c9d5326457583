"""What one process does for others: they get what it gives, and none waits for one that has failed."""

import time

import pytest
import torch
from rank_processes import run_ranks
from torch import distributed

from nemo_plugins import runs
from nemo_plugins.alignment import lora
from nemo_plugins.alignment.first_rank import on_first_rank
from nemo_plugins.alignment.rollouts import Away
from nemo_plugins.training import process_groups

pytestmark = pytest.mark.long  # its tests start processes or draw pictures


def one_rank(rank, ranks, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=ranks)
    process_groups.wait(minutes=2 / 60)
    group = distributed.new_group(list(range(ranks)))

    def fails(error):
        assert rank == 0
        raise error

    assert on_first_rank(group, lambda: ["of rank", rank]) == ["of rank", 0]
    for error, kind in (
        (Away("gone"), Away),
        (runs.Failed("why", "what"), runs.Failed),
        (runs.UserError("key"), runs.UserError),
        (ZeroDivisionError("in fails"), runs.Failed),
    ):
        with pytest.raises(kind, match="gone|why\nwhat|key|ZeroDivisionError: in fails"):
            on_first_rank(group, lambda error=error: fails(error))

    def start(base, trained, to):
        assert rank == 0
        time.sleep(3)  # longer than a collective may take
        if to.name == "fails":
            raise runs.Failed("merging ended with exit code 1")
        to.mkdir()

    lora._start = start
    lora.merge(folder, folder, folder / "checkpoint")
    assert (folder / "checkpoint").is_dir(), f"rank {rank} did not wait"
    with pytest.raises(runs.Failed, match="exit code 1"):
        lora.merge(folder, folder, folder / "fails")
    distributed.destroy_process_group()


@pytest.mark.parametrize("ranks", [1, 2])
def test_all_hear_of_it(tmp_path, ranks):
    run_ranks(one_rank, ranks, tmp_path)
