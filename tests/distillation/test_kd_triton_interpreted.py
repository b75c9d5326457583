"""The Triton kernel on a machine without a GPU: its numbers under Triton's interpreter, and its registers on Hopper.

In processes of their own: the interpreter is chosen when the kernel is imported, for good. Triton is looked for in
TRITON_FOLDER too, so that a machine without a GPU needs none in its environment.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_plugins.distillation import kd_triton, losses

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = os.environ.get("TRITON_FOLDER", "")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None and not Path(FOLDER, "triton").is_dir(),
    reason="Triton is not installed, and TRITON_FOLDER names no folder that has it",
)

AGAINST_LOSSES = """
import itertools, torch
from nemo_plugins.distillation import kd_triton, losses

kd_triton.SHAPES = {1: (32, 64), 2: (16, 64)}  # three blocks, the last one cut short
kd_triton.ON_A_CPU = 2, 2**20  # four programs for six tokens
draw = torch.Generator().manual_seed(5)
exact, short = torch.float32, torch.bfloat16
pairs = (0.5, exact, 2), (2.0, short, 2), (0.5, short, 1e4), (2.0, exact, 1e4)  # every two values of the three meet
for kind, (temperature, dtype, size) in itertools.product(losses.LOSSES, pairs):
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
    settings = dict(kernel=losses.LOSSES[kind].kernel, temperature=temperature, skew=0.1)
    for buffer in (gradient, None):
        loss = kd_triton.loss(student.detach(), teacher, gradient=buffer, **settings)
        torch.testing.assert_close(loss, want.detach(), rtol=1e-5, atol=1e-5 * temperature**2)
    precision = dict(rtol=2**-7, atol=1e-4) if dtype is torch.bfloat16 else dict(rtol=1e-4, atol=1e-5)
    if size == 1e4 and kind != "forward_kl":
        precision["atol"] = 2e-2  # s·(log(s/t) − Σ…) of numbers of 1e4, good to 7 digits
    torch.testing.assert_close(gradient.detach(), want_gradient, **precision)
for skew in (0.0, kd_triton.LEAST_SKEW, 0.5, 1 - 2**-20):  # 0 is forward KL; teacher and student far apart
    student, teacher = (30 * torch.randn(2, 1, 40, generator=draw) for _ in range(2))
    student.requires_grad_()
    want = losses.kd_loss(student.double(), teacher.double(), kind="skewed_kl", skew=skew)
    (want_gradient,) = torch.autograd.grad(want.sum(), student)
    gradient = torch.empty_like(student)
    loss = kd_triton.loss(student.detach(), teacher, kernel=kd_triton.SKEWED_KL, temperature=1.0, skew=skew, gradient=gradient)
    torch.testing.assert_close(loss.double(), want.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.detach(), want_gradient, rtol=1e-4, atol=1e-6)
empty = torch.empty(0, 2, 150)
assert kd_triton.loss(empty, empty, kernel=kd_triton.JSD, temperature=1.0, skew=0.1, gradient=None).shape == (0, 2)
print("agrees")
"""

OVER_SHARDS = """
import itertools, os, sys, tempfile, torch
from torch import distributed, multiprocessing
from nemo_plugins.distillation import kd_triton, losses

kd_triton.SHAPES = {1: (32, 64), 2: (16, 64)}
kd_triton.ON_A_CPU = 2, 2**20
V = 160


def one_rank(rank, ranks, rendezvous):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
    group, mine = distributed.new_group(list(range(ranks))), slice(rank * V // ranks, (rank + 1) * V // ranks)
    draw = torch.Generator().manual_seed(5)
    pairs = (torch.float32, 1e4), (torch.bfloat16, 2)  # the others are above
    for (kind, loss), (dtype, size), skew in itertools.product(losses.LOSSES.items(), pairs, (0.1, 0.0)):
        if skew == 0 and kind != "skewed_kl":
            continue
        student, teacher = (size * torch.randn(3, 2, V, generator=draw) for _ in range(2))
        student[0] -= 3 * size  # all maxima are below 0
        for row, padded in ((1, slice(140, None)), (2, slice(0, V // 2))):  # at the end, and the whole first shard of two
            student[row, :, padded] = teacher[row, :, padded] = float("-inf")
        student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
        want = losses.kd_loss(student, teacher, kind=kind, temperature=2.0, skew=skew)
        (want_gradient,) = torch.autograd.grad(want.sum(), student)
        case = f"{kind}, {dtype}, size={size}: ".__add__
        shards = student.detach()[..., mine], teacher[..., mine]
        settings = dict(kernel=loss.kernel, temperature=2.0, skew=skew, group=group)
        precision = dict(rtol=2**-7, atol=1e-4) if dtype is torch.bfloat16 else dict(rtol=1e-4, atol=1e-5)
        if size == 1e4 and kind != "forward_kl":
            precision["atol"] = 2e-2
        for gradient in (torch.empty(shards[0].shape, dtype=dtype), None):
            found = kd_triton.loss(*shards, gradient=gradient, **settings)
            torch.testing.assert_close(found, want.detach(), rtol=1e-5, atol=4e-5, msg=case)
            if gradient is not None:
                torch.testing.assert_close(gradient, want_gradient[..., mine], **precision, msg=case)
    distributed.destroy_process_group()


with tempfile.TemporaryDirectory() as folder:
    multiprocessing.start_processes(one_rank, (2, f"{folder}/rendezvous"), nprocs=2, start_method="fork")
print("agrees")
"""

FOR_HOPPER = """
import itertools, re, subprocess, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nemo_plugins.distillation import kd_triton, losses

POINTERS = {"student": "*bf16", "teacher": "*bf16", "gradient": "*bf16", "result": "*fp32", "shared": "*fp32"}
FLOATS = {"bits", "temperature", "skew"}
kernels = [loss.kernel for loss in losses.LOSSES.values() if loss.kernel is not None]
whole = [(kd_triton._rows, {})]
parts = [(kd_triton._shard, {"PART": part}) for part in (kd_triton.SUMS, kd_triton.WEIGHTS, kd_triton.GRADIENT)]
for kernel, (programs, (warps, block)), (function, more) in itertools.product(kernels, kd_triton.SHAPES.items(), whole + parts):
    if more.get("PART") == kd_triton.WEIGHTS and kernel < kd_triton.JSD:
        continue  # they have no such pass
    constants = dict(KIND=kernel, NEED_GRADIENT=True, GROUPS=block // 8, LANES=8) | more
    constants |= {"b": 1} if programs == 2 else {}  # Triton makes a constant of an argument that is 1
    names = function.arg_names
    signature = {n: "constexpr" if n in constants else POINTERS.get(n, "fp32" if n in FLOATS else "i32") for n in names}
    by_16 = [n for n in names if n in POINTERS or n == "v" or n.endswith(("_s", "_b"))]
    source = ASTSource(
        fn=function,
        signature=signature,
        constexprs=constants,
        attrs={(names.index(n),): [["tt.divisibility", 16]] for n in by_16},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        used = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = map(int, re.search(r"REG:(\\d+) STACK:(\\d+)", used).groups())
    case = kernel, programs, more
    assert registers * 32 * warps * programs <= 2**16, (case, registers)  # all of a multiprocessor's programs at once
    assert stack <= 8, (case, stack)
    ptx, last = compiled.asm["ptx"], more.get("PART") in (None, kd_triton.GRADIENT)
    assert ".v4.b32" in ptx and ("L2::evict_first" in ptx) == last, case  # 16 bytes a load; hints reach L2
    assert ("L2::evict_last" in ptx) == (more.get("PART") != kd_triton.GRADIENT), case
print("compiles")
"""


def run(script: str, **variables: str) -> str:
    path = os.pathsep.join(filter(None, (FOLDER, os.environ.get("PYTHONPATH"))))
    environment = os.environ | variables | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@needs_triton
@pytest.mark.long
def test_the_kernel_agrees_with_losses():
    assert "agrees" in run(AGAINST_LOSSES, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.long
def test_the_kernel_agrees_with_losses_where_the_vocabulary_is_split():
    assert "agrees" in run(OVER_SHARDS, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.long
def test_the_kernel_compiles_for_hopper_within_its_registers(tmp_path):
    assert "compiles" in run(FOR_HOPPER, TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "skew", "has"),
    [("forward_kl", 0.1, True), ("jsd", 0.0, True), ("skewed_kl", 0.0, True), ("skewed_kl", 1e-30, False)]
    + [("skewed_kl", 1.0, False)],
)
def test_the_kernel_says_which_losses_it_has(kind, skew, has):
    assert kd_triton.covers(losses.LOSSES[kind].kernel, skew) is has


def test_a_loss_without_a_kernel_is_computed_by_torch(monkeypatch):
    import torch

    class OnAGpu(torch.Tensor):
        is_cuda = True

    monkeypatch.setattr(kd_triton, "triton", object())
    logits = torch.randn(2, 1, 8).as_subclass(OnAGpu)
    assert kd_triton.available(logits, kd_triton.SKEWED_KL, 0.1)
    assert not kd_triton.available(logits, kd_triton.SKEWED_KL, 1.0)
    assert losses.kd_loss(logits, logits, kind="skewed_kl", skew=1.0).abs().max() == 0
    monkeypatch.setitem(losses.LOSSES, "torch_alone", losses.Loss(losses.LOSSES["forward_kl"].terms))
    assert losses.kd_loss(logits, logits, kind="torch_alone").abs().max() == 0


@pytest.mark.parametrize(("v", "itemsize", "a_multiprocessor"), [(32128, 2, 2), (32128, 4, 1), (131072, 2, 1)])
def test_rows_in_flight_stay_in_the_cache_of_an_h100(monkeypatch, v, itemsize, a_multiprocessor):
    from types import SimpleNamespace

    import torch

    h100 = SimpleNamespace(multi_processor_count=132, L2_cache_size=50 * 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: h100)
    programs, warps, block = kd_triton.grid(4096, 2 * v * itemsize, torch.device("cuda"))
    assert (programs, warps * programs) == (132 * a_multiprocessor, 132 * 32)
    assert block == 8 * 32 * warps  # eight columns a thread
    assert kd_triton.grid(5, 2 * v * itemsize, torch.device("cuda"))[0] == 5
