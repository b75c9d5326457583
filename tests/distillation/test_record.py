"""A recording that is asked to stop: the parts of a teacher stop together, or one waits for the other in a collective."""

from types import SimpleNamespace

import pytest
import torch
from megatron.core import parallel_state
from rank_processes import run_ranks
from torch import distributed

from nemo_plugins import platforms, runs
from nemo_plugins.distillation.record import Recording

pytestmark = pytest.mark.nemo


def one_rank(rank, ranks, rendezvous):
    torch.set_num_threads(1)
    platforms.prepare()
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=ranks)
    recorded = []
    stops = SimpleNamespace(take=lambda: None, why=None)
    stops.asked = lambda: "SIGTERM" if rank == 1 and len(recorded) == 2 else None  # one of them has had the signal
    header = SimpleNamespace(seq_length=8)
    files = [range(at, at + 4) for at in range(0, 20, 4)]
    writer = SimpleNamespace(recorded=header, missing=lambda part, parts: files, write=lambda first, made: None)
    recording = Recording(None, writer, 4, 1.0, stops)
    recording.shard = lambda model, samples: recorded.append(samples.start)
    with pytest.raises(runs.Stopped):
        recording.record(SimpleNamespace(module=torch.nn.Identity()))
    assert recorded == [0, 4], f"rank {rank}"
    parallel_state.destroy_model_parallel()
    distributed.destroy_process_group()


def test_all_parts_stop_at_the_same_file(tmp_path):
    run_ranks(one_rank, 2, tmp_path / "rendezvous")
