"""The Triton kernel under Triton's interpreter, on the CPU, against losses.py.

In a process of its own: the interpreter is chosen when the kernel is imported, for good.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

AGAINST_LOSSES = """
import itertools, torch
from nemo_plugins.distillation import kd_triton, losses

kd_triton.BLOCK = 64  # three blocks, the last one cut short; more tokens than programs
draw = torch.Generator().manual_seed(5)
dtypes = torch.float32, torch.bfloat16
for kind, temperature, dtype, size in itertools.product(kd_triton.NUMBERS, (0.5, 2.0), dtypes, (2, 1e4)):
    student, teacher = (size * torch.randn(3, 2, 150, generator=draw) for _ in range(2))
    teacher[0] = student[0]
    for padded in (slice(140, None), slice(0, 64)):  # at the end, and a whole first block
        student[1, :, padded] = teacher[1, :, padded] = float("-inf")
    student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
    if temperature == 2.0:  # strided tokens
        student, teacher = student.detach().transpose(0, 1).requires_grad_(), teacher.transpose(0, 1)
    want = losses.kd_loss(student, teacher, kind=kind, temperature=temperature)
    (want_gradient,) = torch.autograd.grad(want.sum(), student)
    gradient = torch.empty_like(student)
    settings = dict(kind=kind, temperature=temperature, skew=0.1)
    for buffer in (gradient, None):
        loss = kd_triton.loss(student.detach(), teacher, gradient=buffer, **settings)
        torch.testing.assert_close(loss, want.detach(), rtol=1e-5, atol=1e-5 * temperature**2)
    precision = dict(rtol=2**-7, atol=1e-4) if dtype is torch.bfloat16 else dict(rtol=1e-4, atol=1e-5)
    if size == 1e4 and kind != "forward_kl":
        precision["atol"] = 2e-2  # s·(log(s/t) − Σ…) of numbers of 1e4, good to 7 digits
    torch.testing.assert_close(gradient.detach(), want_gradient, **precision)
empty = torch.empty(0, 2, 150)
assert kd_triton.loss(empty, empty, kind="jsd", temperature=1.0, skew=0.1, gradient=None).shape == (0, 2)
print("agrees")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernel_agrees_with_losses():
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", AGAINST_LOSSES]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "agrees" in done.stdout, done.stderr[-3000:]
