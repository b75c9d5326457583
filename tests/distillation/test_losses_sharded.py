"""The distillation loss with the vocabulary split over 2 and 4 processes (gloo) is that of one process, gradient included."""

import itertools

import pytest
import torch
from rank_processes import run_ranks
from torch import distributed

from nemo_plugins.configs.training import Divergence
from nemo_plugins.distillation.losses import kd_loss, kd_loss_cached, topk_record

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

V = 24
DRAWS = (torch.float32, 1.0), (torch.float32, 1e4), (torch.bfloat16, 1.0)
TOP_K = {2: (None, 1, 9, V), 4: (None, 9)}  # by processes; 9: more than a fourth of the vocabulary holds


def batch(dtype, size):
    draw = torch.Generator().manual_seed(2)
    student, teacher = (size * torch.randn(9, 2, V, generator=draw) for _ in range(2))
    teacher[0] = teacher[0].round()  # ties
    student[..., 20:] = teacher[..., 20:] = float("-inf")  # of 4 shards the last has little left …
    student[1, :, 6:12] = teacher[1, :, 6:12] = float("-inf")  # … and here the second nothing at all
    return student.to(dtype), teacher.to(dtype), torch.rand(9, 2, generator=draw)


def compute(student, teacher, weights, kind, top_k, group):
    student = student.detach().clone().requires_grad_()
    loss = kd_loss(student, teacher, kind=kind, top_k=top_k, temperature=2.0, group=group)
    (loss * weights).sum().backward()
    return loss.detach(), student.grad


def one_rank(rank, ranks, rendezvous):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
    group = distributed.new_group(list(range(ranks)))
    mine = slice(rank * V // ranks, (rank + 1) * V // ranks)
    for kind, top_k, (dtype, size) in itertools.product(Divergence, TOP_K[ranks], DRAWS):
        student, teacher, weights = batch(dtype, size)
        want, want_gradient = compute(student, teacher, weights, kind, top_k, None)
        loss, gradient = compute(student[..., mine], teacher[..., mine], weights, kind, top_k, group)
        case = f"{kind}, top_k={top_k}, {dtype}, size={size}: ".__add__
        torch.testing.assert_close(loss, want, rtol=1e-5, atol=1e-5, msg=case)
        exact = dtype is torch.float32 and size == 1
        precision = {"rtol": 1e-5, "atol": 2e-6} if exact else {"rtol": 2**-7, "atol": 1e-4 if size == 1 else 1e-2}
        torch.testing.assert_close(gradient, want_gradient[..., mine], **precision, msg=case)
        if top_k is not None:
            record, whole = topk_record(teacher[..., mine], top_k, group=group), topk_record(teacher, top_k)
            assert record[0].equal(whole[0]), case("indices")
            torch.testing.assert_close(record[1:], whole[1:], rtol=1e-5, atol=1e-5, msg=case)
            cached = kd_loss_cached(student[..., mine], *whole, kind=kind, group=group)
            live = kd_loss(student, teacher, kind=kind, top_k=top_k)
            torch.testing.assert_close(cached, live, rtol=1e-5, atol=1e-5, msg=case)
    with pytest.raises(ValueError, match="to the vocabulary's 24, got 25"):
        topk_record(teacher[..., mine], 25, group=group)
    distributed.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 4])
def test_sharded_is_whole(tmp_path, ranks):
    run_ranks(one_rank, ranks, tmp_path / "rendezvous")
