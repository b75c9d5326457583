"""Distillation losses against a reference written another way, sharded against whole, and what they may allocate."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from nemo_plugins.configs.training import Divergence
from nemo_plugins.distillation import in_chunks
from nemo_plugins.distillation.losses import kd_loss, kd_loss_cached, topk_record

KINDS = list(Divergence)
S, B, V = 3, 2, 24
LOWEST = float("-inf")


def draw(*shape, seed=0, size=2.0, dtype=torch.float32):
    return (size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def with_gradient(loss, student):
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    return loss.detach(), gradient


def ours(student, teacher, **options):
    student = student.detach().clone().requires_grad_()
    return with_gradient(kd_loss(student, teacher, **options), student)


def outcomes(logits, order, top_k):
    """Probabilities of a token's outcomes: all, or those at `order` and the sum of the others, one by one."""
    p = torch.softmax(logits, 0)
    if top_k is None:
        return p
    kept = [p[i] for i in order[:top_k]]
    return torch.stack([*kept, sum([p[i] for i in order[top_k:]], torch.zeros((), dtype=p.dtype))])


def kl(p, q):
    return kl_divergence(Categorical(p), Categorical(q))


DEFINITIONS = {  # of a token, from the probabilities of teacher and student
    "forward_kl": lambda t, s, skew: kl(t, s),
    "reverse_kl": lambda t, s, skew: kl(s, t),
    "jsd": lambda t, s, skew: (kl(t, (s + t) / 2) + kl(s, (s + t) / 2)) / 2,
    "skewed_kl": lambda t, s, skew: kl(t, skew * t + (1 - skew) * s),
}


def reference(student, teacher, *, kind, temperature=1.0, top_k=None, skew=0.1):
    """The loss by definition, token by token, through torch.distributions and autograd in double precision."""
    student = student.detach().double().requires_grad_()
    rows = []
    for z, y in zip(student.flatten(0, 1), teacher.double().flatten(0, 1), strict=True):
        order = sorted(range(len(y)), key=lambda i, y=y: (-y[i].item(), i))
        s, t = (outcomes(x / temperature, order, top_k) for x in (z, y))
        rows.append(DEFINITIONS[kind](t, s, skew) * temperature**2)
    return with_gradient(torch.stack(rows).reshape(student.shape[:2]), student)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_k", [None, 1, 5, V - 1])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_value_and_gradient_are_those_of_the_definition(kind, top_k, temperature):
    student, teacher = draw(S, B, V), draw(S, B, V, seed=1)
    options = {"kind": kind, "top_k": top_k, "temperature": temperature}
    want, want_gradient = reference(student, teacher, **options)
    for dtype, close in ((torch.float64, 1e-6), (torch.float32, 2e-5)):  # Categorical itself clamps at 1e-7 or so
        loss, gradient = ours(student.to(dtype), teacher.to(dtype), **options)
        assert loss.dtype is dtype
        torch.testing.assert_close(loss.double(), want, rtol=close, atol=close)
        torch.testing.assert_close(gradient.double(), want_gradient, rtol=close, atol=close)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_k", [None, 4])
def test_gradcheck_in_double_precision(kind, top_k):
    student, teacher = draw(2, 2, 9, dtype=torch.float64).requires_grad_(), draw(2, 2, 9, seed=1, dtype=torch.float64)
    teacher[0, 0, 3] = LOWEST if kind != "reverse_kl" else 0
    assert torch.autograd.gradcheck(lambda x: kd_loss(x, teacher, kind=kind, top_k=top_k, temperature=1.7), student)


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0])
def test_skew_goes_from_the_forward_kl_to_nothing(skew):
    student, teacher = draw(S, B, V), draw(S, B, V, seed=1)
    want = reference(student, teacher, kind="skewed_kl", skew=skew)
    found = ours(student.double(), teacher.double(), kind="skewed_kl", skew=skew)
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-6)
    if skew == 0:
        torch.testing.assert_close(want, reference(student, teacher, kind="forward_kl"))


@pytest.mark.parametrize("kind", KINDS)
def test_top_k_of_the_whole_vocabulary_is_the_dense_loss(kind):
    student, teacher = draw(S, B, V), draw(S, B, V, seed=1)
    kept, dense = (ours(student, teacher, kind=kind, top_k=top_k) for top_k in (V, None))
    torch.testing.assert_close(kept, dense, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def nemos():
    from nemo_plugins import platforms

    platforms.prepare()
    from nemo.collections.llm.modelopt.distill.loss import LogitsKLLoss

    def loss(student, teacher, temperature, reverse):
        made = LogitsKLLoss(SimpleNamespace(tensor_model_parallel_size=1), temperature=temperature, reverse=reverse)
        student = student.detach().clone().requires_grad_()
        of_tokens, *_ = made(student, teacher)
        # NeMo has no T² (its own comment: temperature is not used), and gives [b, s].
        return with_gradient(of_tokens.transpose(0, 1) * temperature**2, student)

    return loss


@pytest.mark.nemo
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl"])
def test_dense_is_nemos_loss_times_t_squared(nemos, kind, temperature):
    student, teacher = draw(5, 3, 64), draw(5, 3, 64, seed=1)
    want = nemos(student, teacher, temperature, kind == "reverse_kl")
    torch.testing.assert_close(ours(student, teacher, kind=kind, temperature=temperature), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_of_the_teacher_gives_the_live_loss_to_the_bit(kind):
    student, teacher = draw(S, B, V, dtype=torch.bfloat16).requires_grad_(), draw(S, B, V, seed=1, dtype=torch.bfloat16)
    indices, logprobs, tail = topk_record(teacher, 5, temperature=2.0)
    assert (indices.dtype, logprobs.dtype, tail.dtype) == (torch.int32, torch.float32, torch.float32)
    assert (indices.shape, logprobs.shape, tail.shape) == ((S, B, 5), (S, B, 5), (S, B))
    p = torch.softmax(teacher.double() / 2, -1)
    torch.testing.assert_close(logprobs.double().exp(), p.gather(-1, indices.long()), rtol=1e-5, atol=0)
    torch.testing.assert_close(tail.double().exp() + logprobs.double().exp().sum(-1), torch.ones(S, B).double())
    cached = with_gradient(kd_loss_cached(student, indices, logprobs, tail, kind=kind, temperature=2.0), student)
    live = with_gradient(kd_loss(student, teacher, kind=kind, temperature=2.0, top_k=5), student)
    assert all(map(torch.equal, cached, live))


def test_ties_go_to_the_lower_index():
    teacher = torch.tensor([1.0, -0.0, 3.0, 0.0, LOWEST, 0.0, 3.0, -5.0]).expand(1, 1, 8)
    assert topk_record(teacher, 8)[0].flatten().tolist() == [2, 6, 0, 1, 3, 5, 7, 4]
    assert topk_record(teacher, 4)[0].flatten().tolist() == [2, 6, 0, 1]


@settings(max_examples=60)
@given(data=st.data())
def test_any_shape_padding_and_size_of_logits(data):
    """Finite values and gradients, never below 0, and 0 for equal logits, where both have the same padding."""
    s, b, v = (data.draw(st.integers(low, high)) for low, high in ((0, 4), (0, 3), (1, 20)))
    seed, size = data.draw(st.integers(0, 10**6)), data.draw(st.sampled_from([0.0, 1.0, 1e4]))
    student, teacher = (draw(s, b, v, seed=seed + i, size=size).clamp(-1e4, 1e4) for i in range(2))
    allowed = draw(s, b, v, seed=seed + 2) > data.draw(st.sampled_from([-9.0, 0.0, 2.0]))
    allowed[..., data.draw(st.integers(0, v - 1))] = True  # something must be possible
    student, teacher = (x.masked_fill(~allowed, LOWEST) for x in (student, teacher))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    options = {
        "kind": data.draw(st.sampled_from(KINDS)),
        "temperature": data.draw(st.sampled_from([0.5, 1.0, 2.0])),
        "top_k": data.draw(st.none() | st.integers(1, v)),
    }
    loss, gradient = ours(student.to(dtype), teacher.to(dtype), **options)
    assert loss.shape == (s, b) and loss.dtype is torch.float32 and gradient.dtype is dtype
    assert loss.isfinite().all() and gradient.isfinite().all()
    assert (loss >= -1e-6 * options["temperature"] ** 2).all()
    assert (gradient[~allowed] == 0).all()
    loss, gradient = ours(student, student, **options)
    assert loss.abs().le(1e-6).all() and gradient.abs().le(1e-5).all()


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "reverse_kl"])
def test_what_only_the_teacher_rules_out_contributes_nothing(kind, top_k):
    student, teacher = draw(S, B, V), draw(S, B, V, seed=1)
    teacher[..., 7] = LOWEST
    almost = teacher.clone()
    almost[..., 7] = -200.0
    loss, gradient = ours(student, teacher, kind=kind, top_k=top_k)
    want, want_gradient = reference(student, almost, kind=kind, top_k=top_k)
    torch.testing.assert_close(loss.double(), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient.double(), want_gradient, rtol=1e-4, atol=1e-5)


def test_what_only_the_student_rules_out_costs_infinitely_much_where_the_definition_says_so():
    student, teacher = draw(S, B, V), draw(S, B, V, seed=1)
    student[0, 0, 7] = LOWEST
    for kind, infinite in (("forward_kl", True), ("reverse_kl", False), ("jsd", False), ("skewed_kl", False)):
        loss = kd_loss(student, teacher, kind=kind)
        assert loss[0, 0].isinf() == infinite and loss[1:].isfinite().all(), kind


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_logits_are_not_hidden(kind, top_k):
    student, teacher = draw(S, B, V), draw(S, B, V, seed=1)
    student[1, 1, 3] = math.nan
    loss, gradient = ours(student, teacher, kind=kind, top_k=top_k)
    assert loss.isnan().nonzero().tolist() == [[1, 1]] and gradient[1, 1].isnan().any()


@pytest.mark.parametrize("top_k", [None, 4])
def test_strided_logits_and_weighted_tokens(top_k):
    student, teacher = draw(B, S, 2 * V), draw(B, S, V, seed=1)
    weights = draw(S, B, seed=2)
    leaf = student.clone().requires_grad_()
    (kd_loss(leaf.transpose(0, 1)[..., ::2], teacher.transpose(0, 1), top_k=top_k) * weights).sum().backward()
    loss, gradient = ours(student.transpose(0, 1)[..., ::2].contiguous(), teacher.transpose(0, 1).contiguous(), top_k=top_k)
    torch.testing.assert_close(leaf.grad.transpose(0, 1)[..., ::2], gradient * weights.unsqueeze(-1))
    assert (leaf.grad[..., 1::2] == 0).all()


def test_the_teacher_gets_no_gradient_and_a_kept_graph_gives_it_again():
    student, teacher = draw(S, B, V).requires_grad_(), draw(S, B, V, seed=1).requires_grad_()
    loss = kd_loss(student, teacher).sum()
    first, again = (torch.autograd.grad(3 * loss, student, retain_graph=True)[0] for _ in range(2))
    assert first.equal(again) and torch.autograd.grad(loss, teacher, allow_unused=True) == (None,)
    student_grad = torch.autograd.grad(kd_loss(student, teacher).sum(), student)[0]
    torch.testing.assert_close(first, 3 * student_grad)
    loss = kd_loss(student, teacher).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_k", [None, 4])
def test_the_size_of_a_chunk_does_not_matter(monkeypatch, kind, top_k):
    student, teacher = draw(7, 3, V), draw(7, 3, V, seed=1)
    found = []
    for rows in (1, 2, 4, 10**6):
        monkeypatch.setattr(in_chunks, "_rows_at_once", lambda *_, rows=rows: rows)
        found.append(ours(student, teacher, kind=kind, top_k=top_k))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-6, atol=1e-6)


class Sizes(TorchDispatchMode):
    """Bytes of the new storage that each operation makes: the largest."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        made = function(*args, **(kwargs or {}))
        for x in made if isinstance(made, tuple | list) else (made,):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in before:
                self.largest = max(self.largest, x.untyped_storage().nbytes())
        return made


@pytest.mark.long
@pytest.mark.parametrize(("kind", "top_k"), [*((kind, None) for kind in KINDS), (KINDS[0], 8)])
def test_nothing_as_large_as_the_logits_is_allocated_but_the_gradient(kind, top_k):
    student, teacher = draw(1024, 2, 6000, dtype=torch.bfloat16), draw(1024, 2, 6000, seed=1, dtype=torch.bfloat16)
    logits = student.untyped_storage().nbytes()
    with Sizes() as sizes:
        kd_loss(student, teacher, kind=kind, top_k=top_k)
    without = sizes.largest
    assert without <= logits / 10  # record and loss are small beside a real vocabulary, not beside this one
    with Sizes() as sizes:
        kd_loss(student.requires_grad_(), teacher, kind=kind, top_k=top_k).sum().backward()
    assert sizes.largest == logits
    # The peak, from the allocator's own record: gradient buffer and little more.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        kd_loss(student, teacher, kind=kind, top_k=top_k).sum().backward()
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert logits <= peak <= 1.2 * logits


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kind": "kl"}, f"kind must be one of {', '.join(KINDS)}, got 'kl'"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": math.nan}, "temperature must be above 0"),
        ({"top_k": 0}, "top_k must be from 1 to the vocabulary's 24, got 0"),
        ({"top_k": V + 1}, "got 25"),
        ({"kind": "skewed_kl", "skew": 1.5}, "skew must be from 0 to 1"),
    ],
)
def test_wrong_options(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        kd_loss(draw(S, B, V), draw(S, B, V), **options)


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"of one shape, got \[3, 2, 24\] and \[3, 2, 23\]"):
        kd_loss(draw(S, B, V), draw(S, B, V - 1))
    with pytest.raises(ValueError, match="both be"):
        kd_loss(draw(S, V), draw(S, V))
    with pytest.raises(ValueError, match="made of the same batch"):
        kd_loss_cached(draw(S, B, V), *topk_record(draw(S, B + 1, V), 4))
