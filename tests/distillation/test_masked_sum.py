"""The mean over the tokens that count of a step, against its definition in double precision."""

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from nemo_plugins.distillation.losses import kd_loss, masked_sum

B, S, V = 6, 5, 11


@pytest.fixture
def step():
    """Logits of student and teacher `[s, b, v]` and the weights of the tokens `[b, s]`; one sequence counts nowhere."""
    random = torch.Generator().manual_seed(1)
    student, teacher = (2 * torch.randn(S, B, V, generator=random, dtype=torch.float64) for _ in range(2))
    mask = (torch.rand(B, S, generator=random) < 0.4).float()
    mask[1] *= 0.25
    mask[2] = 0
    return student, teacher, mask


def of_definition(student, teacher, mask):
    """Mean and gradient, token by token."""
    student = student.clone().requires_grad_()
    places = [(row, at) for row in range(B) for at in range(S) if mask[row, at] > 0]
    each = [
        mask[row, at].double() * kl_divergence(Categorical(logits=teacher[at, row]), Categorical(logits=student[at, row]))
        for row, at in places
    ]
    mean = sum(each) / len(places)
    return mean.detach(), torch.autograd.grad(mean, student)[0]


def ours(student, teacher, mask, micro_batches):
    """Mean and gradient from the sums of micro-batches, as Megatron divides them."""
    student = student.clone().requires_grad_()
    sums = [
        masked_sum(kd_loss(student[:, rows], teacher[:, rows]).transpose(0, 1), mask[rows])
        for rows in torch.arange(B).split(micro_batches)
    ]
    mean = sum(total for total, _ in sums) / sum(count for _, count in sums)
    return mean.detach(), torch.autograd.grad(mean, student)[0]


@pytest.mark.parametrize("micro_batches", [[6], [1] * 6, [2, 4], [3, 1, 2]])
def test_mean_and_gradient_are_those_of_the_definition_whatever_the_micro_batches(step, micro_batches):
    torch.testing.assert_close(ours(*step, micro_batches), of_definition(*step), rtol=1e-9, atol=1e-12)


def test_tokens_that_do_not_count_contribute_nothing(step):
    """Not even an infinite loss, of a token that only the teacher has."""
    student, teacher, mask = step
    before = ours(student, teacher, mask, [6])
    out = (mask == 0).T
    student[out], teacher[out] = torch.randn(int(out.sum()), V, dtype=torch.float64), 3.0
    student[..., 0][out] = float("-inf")
    mean, gradient = ours(student, teacher, mask, [6])
    assert mean == before[0] and torch.equal(gradient[~out], before[1][~out])
    assert not gradient[out].nan_to_num().any()


def test_half_precision_is_summed_in_single_and_shapes_are_held_against_each_other(step):
    *_, mask = step
    total, count = masked_sum(torch.full((B, S), 1.0, dtype=torch.bfloat16), mask)
    assert total.dtype is torch.float32 and total == mask.sum() and count == (mask > 0).sum()
    with pytest.raises(ValueError, match="of one shape"):
        masked_sum(torch.zeros(S, B), mask)
