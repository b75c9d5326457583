"""The objective of on-policy distillation against its definition in double precision, and its mix of batches."""

import numpy as np
import pytest
import torch

from nemo_plugins.alignment import opd
from nemo_plugins.alignment.opd_rollout import is_on_policy
from nemo_plugins.configs.schema import Divergence, LossConfig

pytestmark = pytest.mark.nemo
S, B, V = 7, 4, 11


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setattr(opd, "vocabulary_group", lambda: None)


def draw(seed: int) -> torch.Tensor:
    return torch.from_numpy(3 * np.random.default_rng(seed).standard_normal((S, B, V)))


def divergence(kind: str, z: np.ndarray, y: np.ndarray, temperature: float, top_k: int | None, skew: float) -> float:
    """Of one token, from the logits of student and teacher, by a plain sum."""

    def outcomes(x: np.ndarray) -> list[float]:
        p = np.exp(x / temperature) / np.exp(x / temperature).sum()
        kept = np.argsort(-y)[: top_k or len(y)]
        rest = [1 - p[kept].sum()] if top_k else []
        return [*p[kept], *rest]

    s, t = outcomes(z), outcomes(y)
    total = 0.0
    for a, b in zip(s, t, strict=True):
        total += {
            "forward_kl": lambda a, b: b * np.log(b / a),
            "reverse_kl": lambda a, b: a * np.log(a / b),
            "jsd": lambda a, b: (b * np.log(2 * b / (a + b)) + a * np.log(2 * a / (a + b))) / 2,
            "skewed_kl": lambda a, b: b * np.log(b / (skew * b + (1 - skew) * a)),
        }[kind](a, b)
    return total * temperature**2


def by_definition(student: torch.Tensor, teacher: torch.Tensor, mask: np.ndarray, *how) -> float:
    """The mean over the completions' tokens."""
    places = [(s, b) for s in range(S) for b in range(B) if mask[b, s]]
    return sum(divergence(how[0], student[at].numpy(), teacher[at].numpy(), *how[1:]) for at in places) / len(places)


def batch(mask: np.ndarray, heldout: int = 0) -> dict[str, torch.Tensor]:
    return {"loss_mask": torch.from_numpy(mask).float(), "heldout": torch.full((len(mask),), heldout)}


MASK = np.zeros((B, S), int)
MASK[0, 2:4] = MASK[1, 3:7] = MASK[3, 1:2] = 1  # completions of 2, 4, 0 and 1 tokens


@pytest.mark.parametrize("kind", list(Divergence))
@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (1.7, None), (1.0, 4), (0.6, 3)])
def test_value_and_gradient_are_those_of_the_masked_mean(kind, temperature, top_k):
    """In micro-batches of 1 and 3 rows, whose sums and counts add up to the update's mean."""
    student, teacher = draw(0).requires_grad_(), draw(1)
    loss, total, count = LossConfig(kind=kind, temperature=temperature, top_k=top_k, skew=0.2), 0.0, 0
    for rows in (slice(0, 1), slice(1, 4)):
        pair = (student[:, rows], teacher[:, rows])
        summed, tokens, _ = opd.measure(loss, lambda pair=pair: pair)(batch(MASK[rows]), None)
        total, count = total + summed, count + int(tokens)
    assert count == MASK.sum() == 7
    how = (MASK, kind.value, temperature, top_k, 0.2)
    assert float(total / count) == pytest.approx(by_definition(student.detach(), teacher, *how), rel=1e-9)
    (total / count).backward()
    random, step = np.random.default_rng(2), 1e-6
    assert not student.grad.permute(1, 0, 2)[torch.from_numpy(MASK) == 0].any(), "prompts and padding teach nothing"
    for place in [(2, 0), (5, 1), (1, 3)]:
        column = int(random.integers(V))
        ends = []
        for sign in (1, -1):
            moved = student.detach().clone()
            moved[(*place, column)] += sign * step
            ends.append(by_definition(moved, teacher, *how))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float(student.grad[(*place, column)]) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_held_out_samples_have_the_same_measure_whatever_is_trained():
    student, teacher = draw(3), draw(4)
    loss = LossConfig(kind=Divergence.jsd, temperature=2.0, top_k=2)
    total, count, watched = opd.measure(loss, lambda: (student, teacher))(batch(MASK, heldout=1), None)
    wanted = by_definition(student, teacher, MASK, "reverse_kl", 1.0, None, 0.0)
    assert float(total / count) == pytest.approx(wanted, rel=1e-9) and watched["loss"] is total
    same = (student.argmax(-1) == teacher.argmax(-1)).T.numpy()
    assert int(watched["agreement"]) == (same & (MASK > 0)).sum()


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.5, 0.75, 1.0])
def test_a_share_of_the_batches_is_on_policy_however_many_there_are(share):
    """GKD's lambda, without its coin: after n batches at most one less than lambda n."""
    taken = np.cumsum([is_on_policy(number, share) for number in range(200)])
    due = share * np.arange(1, 201)
    assert (taken <= due + 1e-9).all() and (taken > due - 1).all()
