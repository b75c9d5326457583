"""The loss of a teacher in a few draws is right on average, to the gradient, and the draws are the same whoever makes them."""

import itertools
import math

import pytest
import torch
from rank_processes import run_ranks
from torch import distributed

from nemo_plugins.distillation.losses import kd_loss
from nemo_plugins.distillation.sampled import kd_loss_sampled, sampled_record, uniforms

V = 24


def logits(*shape, seed=0, size=2.0, dtype=torch.float64):
    return (size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def with_gradient(loss, student, **options):
    """Loss `[s, b]` and its gradient, of each token by itself."""
    student = student.detach().clone().requires_grad_()
    found = loss(student, **options)
    return found.detach(), torch.autograd.grad(found.sum(), student)[0]


def sampled(indices, entropy, **options):
    return lambda student: kd_loss_sampled(student, indices, entropy, **options)


@pytest.mark.parametrize(("vocabulary", "draws"), [(2, 1), (3, 4), (4, 3)])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_mean_over_all_possible_draws_is_the_full_loss_and_gradient(vocabulary, draws, temperature):
    student, teacher = logits(1, 1, vocabulary), logits(1, 1, vocabulary, seed=1)
    p = (teacher / temperature).softmax(-1).flatten()
    every = torch.tensor(list(itertools.product(range(vocabulary), repeat=draws)))
    chance = p[every].prod(-1)
    _, entropy = sampled_record(teacher, torch.zeros(1, 1, 1, dtype=torch.float64), temperature=temperature)
    indices = torch.cat([p.argmax().expand(len(every), 1), every], -1).unsqueeze(0)
    loss, gradient = with_gradient(
        sampled(indices, entropy.expand(1, len(every)), temperature=temperature), student.expand(1, len(every), -1)
    )
    want, full = with_gradient(lambda z: kd_loss(z, teacher, temperature=temperature), student)
    torch.testing.assert_close((chance * loss).sum(), want.sum(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close((chance.unsqueeze(-1) * gradient[0]).sum(0), full[0, 0], rtol=1e-12, atol=1e-12)


def test_the_mean_over_many_draws_is_the_full_gradient_and_that_of_the_largest_renormalised_is_not():
    many, draws = 20_000, 12
    student, teacher = logits(1, 1, V), logits(1, 1, V, seed=1)
    record = sampled_record(teacher.expand(1, many, V), uniforms(7, 0, many, draws).unsqueeze(0))
    loss, gradient = with_gradient(sampled(*record), student.expand(1, many, V))
    want, full = with_gradient(lambda z: kd_loss(z, teacher), student)
    spread = gradient[0].std(0) / many**0.5  # standard error of the mean
    of_gradient = (gradient[0].mean(0) - full[0, 0]) / spread
    assert abs(loss.mean() - want) < 4 * loss.std() / many**0.5
    assert of_gradient.abs().max() < 4 and 0.3 < of_gradient.square().mean() < 2

    kept = teacher.masked_fill(teacher < teacher.topk(draws).values[..., -1:], float("-inf"))
    _, of_largest = with_gradient(lambda z: kd_loss(z, kept), student)
    assert ((of_largest - full)[0, 0] / spread).abs().max() > 20


def test_draws_follow_their_numbers_and_never_take_what_has_probability_0():
    teacher = torch.tensor([0, 0.25, 0, 0.5, 0.25, 0]).log().reshape(1, 1, 6)
    numbers = torch.tensor([0, 0.2499, 0.2501, 0.7499, 0.7501, 1 - 2**-53], dtype=torch.float64).reshape(1, 1, 6)
    for dtype in (torch.float32, torch.float64):
        indices, entropy = sampled_record(teacher.to(dtype), numbers)
        assert indices.flatten().tolist() == [3, 1, 1, 3, 3, 4, 4]
        torch.testing.assert_close(entropy.double(), torch.full((1, 1), 1.5 * math.log(2)).double(), rtol=1e-6, atol=0)
    nan = sampled_record(teacher.masked_fill(teacher < -9, math.nan), numbers)[1]
    assert nan.isnan().all()


def test_draws_depend_on_seed_and_sample_alone():
    assert uniforms(1, 5, 8, 3).equal(uniforms(1, 5, 8, 3))
    others = [uniforms(1, 5, 8, 3), uniforms(1, 6, 8, 3), uniforms(2, 5, 8, 3)]
    assert len({tuple(each.flatten().tolist()) for each in others}) == 3
    teacher = logits(8, 4, V)
    numbers = torch.stack([uniforms(1, i, 8, 3) for i in range(4)], 1)
    together = sampled_record(teacher, numbers)
    for i in range(4):
        alone = sampled_record(teacher[:, i : i + 1], numbers[:, i : i + 1])
        assert all(one.equal(all_[:, i : i + 1]) for one, all_ in zip(alone, together, strict=True))


def test_what_only_the_student_rules_out_costs_infinitely_much():
    student, teacher = logits(1, 1, 4), logits(1, 1, 4, seed=1)
    student[..., 2] = float("-inf")
    indices = torch.tensor([[[0, 0, 2]]])
    _, entropy = sampled_record(teacher, torch.zeros(1, 1, 1).double())
    assert kd_loss_sampled(student, indices, entropy).isinf().all()
    assert kd_loss_sampled(student, indices[..., :2], entropy).isfinite().all()


def test_a_record_of_another_batch_is_refused():
    with pytest.raises(ValueError, match=r"got \[2, 1, 4\], \[1, 1, 3\], \[2, 1\]"):
        kd_loss_sampled(logits(2, 1, 4), torch.zeros(1, 1, 3, dtype=torch.int32), torch.zeros(2, 1))


def one_rank(rank, ranks, rendezvous):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
    group = distributed.new_group(list(range(ranks)))
    mine = slice(rank * V // ranks, (rank + 1) * V // ranks)
    for dtype, temperature in ((torch.float32, 1.0), (torch.bfloat16, 2.0)):
        student, teacher = logits(9, 2, V, dtype=dtype), logits(9, 2, V, seed=1, dtype=dtype)
        teacher[..., V - 5 :] = float("-inf")
        numbers = torch.stack([uniforms(3, i, 9, 6) for i in range(2)], 1)
        whole = sampled_record(teacher, numbers, temperature=temperature)
        record = sampled_record(teacher[..., mine], numbers, temperature=temperature, group=group)
        assert all(one.equal(other) for one, other in zip(record, whole, strict=True))
        want, full = with_gradient(sampled(*whole, temperature=temperature), student)
        found = with_gradient(sampled(*whole, temperature=temperature, group=group), student[..., mine])
        torch.testing.assert_close(found, (want, full[..., mine]), rtol=2**-7 if dtype is torch.bfloat16 else 1e-5, atol=1e-6)
    distributed.destroy_process_group()


@pytest.mark.long  # starts processes
def test_a_vocabulary_split_over_two_processes_gives_the_same_draws_and_loss(tmp_path):
    run_ranks(one_rank, 2, tmp_path / "rendezvous")
