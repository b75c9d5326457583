"""Alignment's losses against closed forms by hand in float64, against naive loops, and against TRL where it is installed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nemo_plugins.alignment.losses import (
    bounded_log_ratio,
    clipped,
    dpop_loss,
    group_advantages,
    groups_with_signal,
    grpo_loss,
    importance_ratio,
    kl_estimate,
    preference_loss,
    sft_loss,
    summed,
)
from nemo_plugins.configs.alignment import GroupLoss, Preference

logp = st.floats(-200, 0, allow_nan=False)
quads = st.lists(st.tuples(logp, logp, logp, logp), min_size=1, max_size=5)


def draw(*shape, seed=0, size=1.0):
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def dpop_by_hand(w, l, rw, rl, beta, lam):  # noqa: E741
    """(loss, ∂/∂w, ∂/∂l): with z the argument of σ, loss' = −σ(−z) z'; a fall below 1e-4 nats is rounding, no fall."""
    fell = rw - w > 1e-4
    z = beta * ((w - rw) - (l - rl)) - lam * fell * (rw - w)
    loss = math.log1p(math.exp(-z)) if z > -30 else -z
    return loss, -sigmoid(-z) * (beta + lam * fell), sigmoid(-z) * beta


@settings(max_examples=60)
@given(quads, st.sampled_from([0.01, 0.05, 0.5]), st.sampled_from([0.0, 1.0, 2.5, 50.0]))
@example([(-2.7e-13, 0.0, 0.0, 0.0), (-9e-5, 0.0, 0.0, 0.0), (-1.1e-4, 0.0, 0.0, 0.0)], 0.01, 1.0)
def test_dpop_is_the_closed_form_with_its_gradient(rows, beta, lam):
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in zip(*rows, strict=True)]
    loss = dpop_loss(*tensors, beta=beta, lam=lam)
    gradients = torch.autograd.grad(loss.sum(), tensors[:2])
    want = np.array([dpop_by_hand(*row, beta, lam) for row in rows]).T
    np.testing.assert_allclose(loss.detach().numpy(), want[0], rtol=1e-9, atol=1e-12)
    for gradient, wanted in zip(gradients, want[1:], strict=True):
        np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-9, atol=1e-12)


def test_what_a_mask_leaves_out_reaches_neither_sum_nor_gradient():
    logp = torch.tensor([[-1.0, math.nan, -2.0], [-math.inf, -4.0, -8.0]], requires_grad=True)
    mask = torch.tensor([[1, 0, 1], [0, 1, 1]])
    response = summed(logp, mask)
    response.sum().backward()
    assert response.tolist() == [-3.0, -12.0] and logp.grad.tolist() == mask.tolist()


def test_lambda_is_outside_beta():
    """Numbers worked out by hand: z = 0.05 · ((−12 + 10) − (−20 + 15)) − 2.5 · 2 = 0.15 − 5; inside β it would be −0.1."""
    loss = dpop_loss(*(torch.tensor([x], dtype=torch.float64) for x in (-12.0, -20.0, -10.0, -15.0)), beta=0.05, lam=2.5)
    assert loss.item() == pytest.approx(4.85 + math.log1p(math.exp(-4.85)))


def test_at_the_reference_training_starts_as_dpo():
    w, loser = (torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (-10.0, -12.0))
    loss = dpop_loss(w, loser, w.detach(), loser.detach(), beta=0.05, lam=2.5)
    gradients = torch.autograd.grad(loss.sum(), (w, loser))
    assert loss.item() == pytest.approx(math.log(2)) and [x.item() for x in gradients] == pytest.approx([-0.025, 0.025])


def test_dpop_holds_the_chosen_up_where_dpo_lets_it_fall():
    """Descend on two log-probabilities coupled as those of similar texts are: what lowers the rejected lowers the chosen."""

    def descend(lam):
        shared, w = torch.zeros(1, dtype=torch.float64, requires_grad=True), torch.zeros(1, dtype=torch.float64)
        for _ in range(300):
            chosen, rejected = w + shared, 3 * shared
            loss = dpop_loss(chosen - 10, rejected - 10, w - 10, w - 10, beta=0.1, lam=lam).sum()
            (gradient,) = torch.autograd.grad(loss, shared)
            shared = (shared - gradient).detach().requires_grad_()
        return shared.item()

    assert descend(0.0) < -5
    assert abs(descend(2.5)) < 1


@pytest.mark.parametrize("kind", list(Preference))
def test_preference_kinds_by_hand(kind):
    w, l, rw, rl = (draw(4, seed=i, size=5) - 20 for i in range(4))  # noqa: E741
    nw, nl = torch.tensor([3, 4, 5, 6]), torch.tensor([6, 1, 2, 3])
    got = preference_loss(kind, w, l, rw, rl, beta=0.3, lam=2.5, gamma=0.7, tokens_w=nw, tokens_l=nl)
    for i in range(4):
        a, b, c, d = (x[i].item() for x in (w, l, rw, rl))
        want = {
            "dpop": dpop_by_hand(a, b, c, d, 0.3, 2.5)[0],
            "dpo": dpop_by_hand(a, b, c, d, 0.3, 0.0)[0],
            "ipo": ((a - c) / int(nw[i]) - (b - d) / int(nl[i]) - 1 / 0.6) ** 2,
            "simpo": -math.log(sigmoid(0.3 * (a / int(nw[i]) - b / int(nl[i])) - 0.7)),
        }[kind]
        assert got[i].item() == pytest.approx(want)


def test_preference_refusals():
    x = torch.zeros(2)
    with pytest.raises(ValueError, match="one of dpop, dpo, ipo, simpo, got 'orpo'"):
        preference_loss("orpo", x, x, x, x, beta=1)
    with pytest.raises(ValueError, match="tokens_w"):
        preference_loss("ipo", x, x, x, x, beta=1)
    with pytest.raises(ValueError, match=r"ref_logp_l \[3\]"):
        dpop_loss(x, x, x, torch.zeros(3), beta=1, lam=0)
    for beta, lam in ((0, 1), (-1, 1), (float("nan"), 1), (1, -1)):
        with pytest.raises(ValueError, match="beta"):
            dpop_loss(x, x, x, x, beta=beta, lam=lam)


def test_sft_weights_lower_a_samples_pull_and_no_other():
    lp = -draw(3, 4, seed=1).abs()
    lp[0, 3] = float("-inf")  # left out: a padded label
    lp[2] = float("nan")
    lp.requires_grad_()
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    weights = torch.tensor([1.0, 0.5, 9.0], dtype=torch.float64)
    loss = sft_loss(lp, mask, weights)
    want = -(lp[0, :3].sum() + 0.5 * lp[1, 1:3].sum()) / 5
    assert loss.item() == pytest.approx(want.item())
    (gradient,) = torch.autograd.grad(loss, lp)
    want = torch.tensor([[-0.2, -0.2, -0.2, 0], [0, -0.1, -0.1, 0], [0, 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(gradient, want)
    assert sft_loss(lp, mask, weights.unsqueeze(1).expand(3, 4)).item() == loss.item()
    assert sft_loss(lp, torch.zeros(3, 4)).item() == 0
    with pytest.raises(ValueError, match="weights must be"):
        sft_loss(lp, mask, torch.ones(4))


def test_sft_micro_batches_sum_to_the_whole():
    lp, mask = -draw(4, 5, seed=2).abs(), draw(4, 5, seed=3) > 0
    whole = sft_loss(lp, mask)
    parts = sum(sft_loss(lp[i : i + 1], mask[i : i + 1], tokens=mask.sum()) for i in range(4))
    assert parts.item() == pytest.approx(whole.item())
    want = torch.nn.functional.cross_entropy(draw(6, 9), torch.tensor([0, 1, 2, 3, -100, 5]))
    rows = draw(6, 9).log_softmax(-1)[range(6), [0, 1, 2, 3, 0, 5]]
    assert sft_loss(rows, torch.tensor([1, 1, 1, 1, 0, 1])).item() == pytest.approx(want.item())


@settings(max_examples=60)
@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4), min_size=1, max_size=4))
def test_advantages_are_a_naive_loop(groups):
    rewards = torch.tensor(groups, dtype=torch.float64)
    for kind in GroupLoss:
        got = group_advantages(rewards.flatten(), 4, kind=kind).reshape(-1, 4)
        for row, group in zip(got.tolist(), groups, strict=True):
            mean = math.fsum(group) / 4
            deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in group) / 3)
            scale = 1.0 if kind == "dr_grpo" else deviation + 1e-6
            want = [0.0] * 4 if len(set(group)) == 1 else [(x - mean) / scale for x in group]
            assert row == pytest.approx(want, rel=1e-6, abs=1e-6)


def test_advantages_of_equal_rewards_are_0_to_the_bit():
    rewards = torch.tensor([[0.1] * 7, [0.1] * 6 + [0.2]])
    got = group_advantages(rewards, 7)
    assert got.shape == rewards.shape and got.dtype is torch.float32
    assert got[0].tolist() == [0.0] * 7 and got[1, 6] > 2
    assert groups_with_signal(rewards, 7).tolist() == [False, True]
    assert group_advantages(torch.tensor([1, 0, 0, 1]), 2, kind="dr_grpo").tolist() == [0.5, -0.5, -0.5, 0.5]


def test_advantage_refusals():
    with pytest.raises(ValueError, match="group_size must be 2 or more"):
        group_advantages(torch.ones(4), 1)
    with pytest.raises(ValueError, match="5 rewards are no whole groups of 2"):
        group_advantages(torch.ones(5), 2)
    with pytest.raises(ValueError, match="grpo, dr_grpo, dapo, gspo, cispo"):
        group_advantages(torch.ones(4), 2, kind="ppo")


def batch(b=4, t=6, seed=0):
    lp, old, ref = (-draw(b, t, seed=seed + i).abs() for i in range(3))
    mask = draw(b, t, seed=seed + 3) > -0.5
    mask[1] = False
    return lp, old, ref, draw(b, seed=seed + 4), mask


def grpo_by_hand(lp, old, ref, advantages, mask, kind, low, high, kl_coef, max_tokens, correction=None):
    """(loss, gradient `[b][t]`, which tokens the clip acts on) of the papers' equations, token by token in Python's floats."""
    b, t = lp.shape
    counted = [[j for j in range(t) if mask[i, j]] for i in range(b)]
    everything = sum(map(len, counted))
    loss, gradient, held = 0.0, [[0.0] * t for _ in range(b)], [[False] * t for _ in range(b)]
    for i, (places, a) in enumerate(zip(counted, advantages.tolist(), strict=True)):
        share = {
            "grpo": 1 / (b * max(1, len(places))),
            "gspo": 1 / (b * max(1, len(places))),
            "dr_grpo": 1 / (b * (max_tokens or t)),
            "dapo": 1 / max(1, everything),
            "cispo": 1 / max(1, everything),
        }[kind]
        c = {j: 1.0 if correction is None else float(correction[i, j]) for j in places}
        r = {j: math.exp(lp[i, j] - old[i, j]) for j in places}
        if kind == "gspo":  # equation 5: the geometric mean of the tokens' ratios, times A, clipped once for the response
            s = math.prod(r.values()) ** (1 / len(places)) if places else 1.0
            stuck = (a > 0 and s > 1 + high) or (a < 0 and s < 1 - low)
            weight = sum(c.values()) / max(1, len(places))
            loss -= bool(places) * weight * min(s * a, min(max(s, 1 - low), 1 + high) * a) / b
        for j in places:
            d = float(ref[i, j] - lp[i, j])
            loss += share * kl_coef * (math.exp(d) - d - 1)
            gradient[i][j] = share * kl_coef * (1 - math.exp(d))
            if kind == "gspo":
                held[i][j] = stuck
                gradient[i][j] -= 0.0 if stuck else weight * s * a / len(places) / b
            elif kind == "cispo":
                bounded = min(max(r[j], 1 - low), 1 + high)
                held[i][j] = a != 0 and bounded != r[j]
                loss -= share * c[j] * bounded * a * float(lp[i, j])
                gradient[i][j] -= share * c[j] * bounded * a
            else:
                held[i][j] = (a > 0 and r[j] > 1 + high) or (a < 0 and r[j] < 1 - low)
                loss -= share * c[j] * min(r[j] * a, min(max(r[j], 1 - low), 1 + high) * a)
                gradient[i][j] -= 0.0 if held[i][j] else share * c[j] * r[j] * a
    return loss, gradient, held


@pytest.mark.parametrize("kind", GroupLoss)
@pytest.mark.parametrize("max_tokens", [None, 50])
@pytest.mark.parametrize(("low", "high", "kl_coef"), [(0.2, 0.2, 0.001), (1.0, 0.6, 0.5), (0.0, 0.0, 0.0)])
def test_grpo_is_a_naive_loop(kind, max_tokens, low, high, kl_coef):
    """Loss, gradient and what is clipped."""
    acted = 0
    for seed in range(5):
        lp, old, ref, advantages, mask = batch(seed=10 * seed)
        lp.requires_grad_()
        clips = {"kind": kind, "clip_low": low, "clip_high": high}
        for correction in (None, draw(4, 6, seed=seed).abs()):
            got = grpo_loss(
                lp, old, ref, advantages, mask, kl_coef=kl_coef, max_tokens=max_tokens, correction=correction, **clips
            )
            want, slope, held = grpo_by_hand(
                lp.detach(), old, ref, advantages, mask, kind, low, high, kl_coef, max_tokens, correction
            )
            assert got.item() == pytest.approx(want, rel=1e-9, abs=1e-12)
            (gradient,) = torch.autograd.grad(got, lp)
            torch.testing.assert_close(gradient, torch.tensor(slope, dtype=torch.float64))
        ratio = importance_ratio(lp, old, mask, kind=kind)
        assert (clipped(ratio, advantages, **clips) & mask).tolist() == held
        acted += sum(map(sum, held))
    assert 0 < acted < 5 * 4 * 6, "clips that act on some tokens"


@pytest.mark.parametrize("kind", [kind for kind in GroupLoss if kind is not GroupLoss.cispo])
def test_grpo_gradient(kind):
    """That of the value: but for cispo's, whose weights are constants."""
    lp, old, ref, advantages, mask = batch(seed=77)

    def loss(x):
        return grpo_loss(x, old, ref, advantages, mask, kind=kind, kl_coef=0.1)

    lp.requires_grad_()
    assert torch.autograd.gradcheck(loss, lp)
    (gradient,) = torch.autograd.grad(loss(lp), lp)
    assert gradient[~mask].abs().max() == 0 and gradient[1].abs().max() == 0


@pytest.mark.parametrize("kind", GroupLoss)
def test_grpo_first_step_is_the_policy_gradient(kind):
    """Where the policy is the one that sampled and the reference, the gradient is −A times a token's share, the textbook's."""
    lp, *_, advantages, mask = batch(seed=5)
    lp.requires_grad_()
    loss = grpo_loss(lp, lp.detach(), lp.detach(), advantages, mask, kind=kind)
    (gradient,) = torch.autograd.grad(loss, lp)
    tokens = {"dr_grpo": 6 * 4, "dapo": mask.sum(), "cispo": mask.sum()}.get(kind, 4 * mask.sum(1, keepdim=True).clamp_min(1))
    torch.testing.assert_close(gradient, -advantages.unsqueeze(1) * mask / tokens)


@pytest.mark.parametrize("kind", ["dapo", "cispo"])
def test_means_over_tokens_of_two_halves_add_up_to_the_whole(kind):
    *logps, advantages, mask = batch(seed=3)
    whole = grpo_loss(*logps, advantages, mask, kind=kind)
    halves = [
        grpo_loss(*(x[part] for x in (*logps, advantages, mask)), kind=kind, tokens=mask.sum())
        for part in (slice(1), slice(1, 4))
    ]
    assert sum(halves).item() == pytest.approx(whole.item())
    alone = [grpo_loss(*(x[part] for x in (*logps, advantages, mask)), kind=kind) for part in (slice(1), slice(1, 4))]
    assert sum(alone).item() / 2 != pytest.approx(whole.item()), "each by its own tokens is another loss"


@pytest.mark.parametrize("kind", GroupLoss)
def test_grpo_takes_no_notice_of_what_is_masked(kind):
    lp, old, ref, advantages, mask = batch(seed=9)
    want = grpo_loss(lp, old, ref, advantages, mask, kind=kind)
    lp, old, ref = (x.masked_fill(~mask, junk) for x, junk in ((lp, float("-inf")), (old, float("nan")), (ref, 1e4)))
    lp.requires_grad_()
    got = grpo_loss(lp, old, ref, advantages, mask, kind=kind)
    (gradient,) = torch.autograd.grad(got, lp)
    assert got.item() == want.item() and gradient.isfinite().all()
    assert importance_ratio(lp, old, mask, kind=kind)[~mask].eq(1).all()
    empty = grpo_loss(lp, old, ref, advantages, torch.zeros_like(mask), kind=kind)
    assert empty.item() == 0


def test_grpo_clips_apart():
    """A ratio of 1.25: within the upper clip of 0.28, beyond that of 0.2; then no gradient is left."""
    lp = torch.full((1, 1), math.log(1.25), dtype=torch.float64, requires_grad=True)
    old, advantages, mask = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64), torch.ones(1, 1)
    for high, want, slope in ((0.28, -1.25, -1.25), (0.2, -1.2, 0.0)):
        loss = grpo_loss(lp, old, None, advantages, mask, clip_high=high, kl_coef=0)
        assert loss.item() == pytest.approx(want)
        assert torch.autograd.grad(loss, lp)[0].item() == pytest.approx(slope)


def test_grpo_refusals():
    lp, old, ref, advantages, mask = batch()
    for options, message in (
        ({"kind": "ppo"}, "grpo, dr_grpo, dapo, gspo, cispo"),
        ({"clip_low": 1.1}, "clip_low"),
        ({"kl_coef": -1}, "kl_coef"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"correction": torch.ones(2, 2)}, "correction"),
        ({"max_log_ratio": 0}, "max_log_ratio"),
        ({"max_log_ratio": 89}, "max_log_ratio"),
    ):
        with pytest.raises(ValueError, match=message):
            grpo_loss(lp, old, ref, advantages, mask, **options)
    with pytest.raises(ValueError, match="needs ref_logp"):
        grpo_loss(lp, old, None, advantages, mask)
    with pytest.raises(ValueError, match="advantages"):
        grpo_loss(lp, old, ref, advantages.unsqueeze(1), mask)


@pytest.mark.parametrize("kind", GroupLoss)
@pytest.mark.parametrize("far", [30.0, 89.0, 700.0, 3e38])
def test_a_log_ratio_beyond_exp_has_a_finite_loss_and_gradient(kind, far):
    """In fp32: a clipped token has gradient 0 however far it is; one that is not clipped is still pushed back. Of cispo either
    keeps the bounded weight, and the value is that times log π = 0."""
    of_cispo, of_others = ((1.0, -1.2, 0.0), (-1.0, 1.2, 0.0)), ((1.0, 0.0, -1.2), (-1.0, math.exp(20), math.exp(20)))
    for advantage, slope, value in of_cispo if kind == "cispo" else of_others:
        lp = torch.zeros(1, 1, requires_grad=True)
        loss = grpo_loss(lp, torch.full((1, 1), -far), None, torch.tensor([advantage]), torch.ones(1, 1), kind=kind, kl_coef=0)
        loss.backward()
        assert loss.item() == pytest.approx(value)
        assert lp.grad.item() == pytest.approx(slope)
    lp = torch.full((1, 1), -far, requires_grad=True)  # the reference has it at 1, the policy has all but lost it
    loss = grpo_loss(lp, lp.detach(), torch.zeros(1, 1), torch.zeros(1), torch.ones(1, 1), kind=kind, kl_coef=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(math.exp(20) - 21) and lp.grad.item() == pytest.approx(1 - math.exp(20))


@settings(max_examples=100)
@given(st.floats(-1e4, 1e4, width=32), st.floats(1, 80))
def test_the_bound_changes_nothing_below_it(log_ratio, bound):
    x = torch.tensor(log_ratio, dtype=torch.float64, requires_grad=True)
    bounded = bounded_log_ratio(x, bound)
    bounded.backward()
    assert bounded.item() == min(log_ratio, bound) and x.grad.item() == 1
    assert kl_estimate(torch.tensor(float("-inf")), torch.tensor(-1.0)).isfinite()


def test_kl_estimate_is_unbiased_and_never_negative():
    policy, reference = torch.distributions.Categorical(logits=draw(8)), torch.distributions.Categorical(logits=draw(8, seed=1))
    every = torch.arange(8)
    estimates = kl_estimate(policy.log_prob(every), reference.log_prob(every))
    assert (estimates >= 0).all()
    want = torch.distributions.kl_divergence(policy, reference)
    assert (policy.probs * estimates).sum().item() == pytest.approx(want.item())
