"""The Triton kernel of the distillation loss against the chunked computation in losses.py, on a GPU."""

import itertools

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
from nemo_plugins.distillation import kd_triton, losses  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


def both(student, teacher, monkeypatch, **options):
    for use_kernel in (False, True):
        monkeypatch.setattr(kd_triton, "available", lambda *_, use_kernel=use_kernel: use_kernel)
        leaf = student.detach().clone().requires_grad_()
        loss = losses.kd_loss(leaf, teacher, **options)
        yield loss.detach(), *torch.autograd.grad(loss.sum(), leaf)


@pytest.mark.parametrize("kind", [kind for kind, loss in losses.LOSSES.items() if loss.kernel is not None])
@pytest.mark.parametrize("v", [33, 32128, 131072])
def test_the_kernel_gives_the_chunked_loss_and_gradient(monkeypatch, kind, v):
    draw = torch.Generator("cuda").manual_seed(0)
    for dtype, temperature in itertools.product((torch.float32, torch.bfloat16), (0.5, 1.0, 2.0)):
        student, teacher = (3 * torch.randn(17, 2, v, generator=draw, device="cuda") for _ in range(2))
        student[..., v - 9 :] = teacher[..., v - 9 :] = float("-inf")
        student[3, :, :20] = teacher[3, :, :20] = float("-inf")
        teacher[5] = student[5]
        (want, want_gradient), (loss, gradient) = both(
            student.to(dtype), teacher.to(dtype), monkeypatch, kind=kind, temperature=temperature
        )
        torch.testing.assert_close(loss, want, rtol=1e-4, atol=1e-5)
        precision = {"rtol": 2**-7, "atol": 1e-5} if dtype is torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(gradient, want_gradient, **precision)


def test_the_kernel_is_what_a_dense_loss_on_a_gpu_runs(monkeypatch):
    student, teacher = torch.randn(4, 1, 100, device="cuda"), torch.randn(4, 1, 100, device="cuda")
    assert kd_triton.available(student, kd_triton.FORWARD_KL)
    monkeypatch.setattr(losses, "log_probabilities", None)
    assert losses.kd_loss(student, teacher).shape == (4, 1)


def test_memory_beyond_the_gradient_is_the_loss_alone():
    student = torch.randn(1024, 1, 32128, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    teacher = torch.randn_like(student, requires_grad=False)
    losses.kd_loss(student, teacher).sum()  # compiled
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    losses.kd_loss(student, teacher).sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 1.02 * student.numel() * 2
