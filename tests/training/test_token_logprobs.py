"""Log-probabilities and entropies against torch's own, whole and split over processes (gloo), and what they may allocate."""

import pytest
import torch
from torch import distributed, multiprocessing
from torch.distributions import Categorical
from torch.profiler import ProfilerActivity, profile

from nemo_plugins.training import logprobs
from nemo_plugins.training.logprobs import summed, token_entropies, token_logprobs

S, B, V = 9, 2, 24


def batch(dtype=torch.float32, size=3.0):
    draw = torch.Generator().manual_seed(2)
    logits = size * torch.randn(S, B, V, generator=draw)
    logits[..., 20:] = float("-inf")  # padding of the vocabulary: the last of 4 shards has nothing else at a fourth …
    logits[1, :, 6:12] = float("-inf")  # … and here the second has nothing at all
    logits[2, 0, 12:] = float("-inf")  # the same of two
    tokens = torch.randint(0, 6, (S, B), generator=draw)
    tokens[0, 0], tokens[2, 1] = 19, 13
    return logits.to(dtype), tokens, torch.rand(S, B, generator=draw)


def by_torch(logits, tokens, weights, temperature=1.0):
    logits = logits.detach().double().requires_grad_()
    logp = (logits / temperature).log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    (logp * weights).sum().backward()
    return logp.detach(), logits.grad


def ours(logits, tokens, weights, temperature=1.0, group=None):
    logits = logits.detach().clone().requires_grad_()
    logp = token_logprobs(logits, tokens, temperature=temperature, group=group)
    (logp * weights).sum().backward()
    return logp.detach(), logits.grad


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_value_and_gradient_are_torchs(temperature, rows, monkeypatch):
    monkeypatch.setattr(logprobs, "CHUNK_BYTES", rows * 4 * V)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        logits, tokens, weights = batch(dtype)
        got, want = ours(logits, tokens, weights, temperature), by_torch(logits, tokens, weights, temperature)
        assert got[0].dtype == (dtype if dtype is torch.float64 else torch.float32) and got[1].dtype == dtype
        # the value is fp32 of the bf16 logits: nothing is lost but in the gradient's own dtype
        torch.testing.assert_close(got[0].double(), want[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got[1].double(), want[1], rtol=tolerance, atol=tolerance)
        strided = logits.transpose(0, 1).contiguous().transpose(0, 1)
        assert ours(strided, tokens, weights, temperature)[1].equal(got[1])


def test_gradcheck():
    logits, tokens, _ = batch(torch.float64)
    logits = logits[:3, :, :6].clamp_min(-9).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: token_logprobs(x, tokens[:3] % 6, temperature=0.5), logits)


def test_entropies_are_torchs():
    for temperature in (1.0, 0.5):
        logits, *_ = batch(torch.float64)
        want = Categorical(logits=logits.clamp_min(-1e4) / temperature).entropy()
        torch.testing.assert_close(token_entropies(logits, temperature=temperature), want)


def test_ignored_labels_reach_neither_value_nor_gradient():
    logits, tokens, _ = batch()
    mask = torch.ones(B, S, dtype=torch.bool)
    mask[0, 3] = False
    want = ours(logits, tokens, mask.T)
    tokens[3, 0] = -100
    logits.requires_grad_()
    logp = token_logprobs(logits, tokens)
    response = summed(logp.T, mask)
    response.sum().backward()
    torch.testing.assert_close(response.detach(), (want[0] * mask.T).sum(0))
    torch.testing.assert_close(logits.grad, want[1])
    assert logits.grad[3, 0].abs().max() == 0


def test_no_fp32_copy_of_all_logits():
    """Forward and backward of 8 MiB of bf16 logits: their gradient, and less than 1.5 MiB besides; an fp32 copy is 16 MiB."""
    logits = torch.randn(64, 2, 32768).bfloat16().requires_grad_()
    tokens, size = torch.zeros(64, 2, dtype=torch.long), logits.numel() * 2
    before, logprobs.CHUNK_BYTES = logprobs.CHUNK_BYTES, 2 * 4 * 32768
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
            token_logprobs(logits, tokens).sum().backward()
    finally:
        logprobs.CHUNK_BYTES = before
    held = peak = 0
    for event in measured.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert size <= peak < size + 1.5 * 2**20


def test_refusals():
    logits, tokens, _ = batch()
    with pytest.raises(ValueError, match=r"\[s, b, v\]"):
        token_logprobs(logits, tokens.T)
    with pytest.raises(ValueError, match="temperature"):
        token_logprobs(logits, tokens, temperature=0)


def one_rank(rank, ranks, rendezvous):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
    group = distributed.new_group(list(range(ranks)))
    mine = slice(rank * V // ranks, (rank + 1) * V // ranks)
    for dtype, size, tolerance in ((torch.float32, 3.0, 1e-5), (torch.float32, 1e4, 1e-4), (torch.bfloat16, 3.0, 1e-2)):
        logits, tokens, weights = batch(dtype, size)
        for temperature in (1.0, 0.7):
            logp, gradient = ours(logits[..., mine], tokens, weights, temperature, group)
            want, want_gradient = ours(logits, tokens, weights, temperature)
            torch.testing.assert_close(logp, want, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(gradient, want_gradient[..., mine], rtol=tolerance, atol=tolerance)
            entropy = token_entropies(logits[..., mine], temperature=temperature, group=group)
            torch.testing.assert_close(entropy, token_entropies(logits, temperature=temperature), rtol=1e-5, atol=1e-3)
    distributed.destroy_process_group()


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_split_is_whole(tmp_path, ranks):
    multiprocessing.spawn(one_rank, (ranks, tmp_path / "rendezvous"), nprocs=ranks)
