"""What a distillation is watched by equals torch's own, whole or with a sharded vocabulary."""

import pytest
import torch
from rank_processes import run_ranks
from torch import distributed
from torch.nn import functional

from nemo_plugins.distillation.agreement import cross_entropy
from nemo_plugins.training.vocabulary_parallel import best

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

S, B, V = 5, 3, 12


def given():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(S, B, V, generator=generator) * 4
    logits[0, 0, 3] = logits[0, 0, 9] = 50.0  # a tie between two shards
    logits[1, 1, -2:] = float("-inf")
    return logits, torch.randint(0, V - 2, (S, B), generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole(dtype):
    logits, labels = given()
    logits = logits.to(dtype)
    want = functional.cross_entropy(logits.double().reshape(-1, V), labels.reshape(-1), reduction="none").reshape(S, B)
    torch.testing.assert_close(cross_entropy(logits, labels).double(), want, rtol=1e-5, atol=1e-5)
    assert best(logits).equal(logits.argmax(-1)) and best(logits)[0, 0] == 3


def one_rank(rank, count, rendezvous):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=count)
    logits, labels = given()
    mine = logits.chunk(count, -1)[rank]
    loss = cross_entropy(mine, labels, distributed.group.WORLD)
    torch.testing.assert_close(loss, cross_entropy(logits, labels), rtol=1e-6, atol=1e-6)
    assert best(mine, distributed.group.WORLD).equal(logits.argmax(-1))
    distributed.destroy_process_group()


@pytest.mark.parametrize("count", [2, 4])
def test_sharded(tmp_path, count):
    run_ranks(one_rank, count, tmp_path / "rendezvous")
