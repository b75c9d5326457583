"""The distillation loss's kernel: right, how much of the copy bandwidth it reaches, and its time beside NeMo's and Liger's.

Counted as useful: two rows read and one written. In a rehearsal the computation of losses.py stands in for the kernel.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

SHAPES = ((2, 16, 4096), (1, 32, 8192), (2, 16, 8192), (1, 16, 8192), (4, 8, 2048))  # programs a multiprocessor, warps, columns
CHECKED = 64  # rows held against float64


def run(figure: Callable, rehearsal: bool) -> None:
    """Print the figures of both vocabularies."""
    import torch

    from nemo_plugins.distillation import losses

    device = "cpu" if rehearsal else "cuda"
    tokens, vocabularies = (64, (512,)) if rehearsal else (4096, (32128, 131072))
    copy = bandwidth(2**24 if rehearsal else 2**30, device)
    figure("copy bandwidth", copy / 1e12, "TB/s")
    for v in vocabularies:
        torch.manual_seed(0)
        draw = {"dtype": torch.bfloat16, "device": device}
        student = torch.empty(tokens, 1, v, **draw).normal_(0, 2).requires_grad_()
        teacher = torch.empty(tokens, 1, v, **draw).normal_(0, 2)
        useful = 3 * student.nbytes
        for kind in [kind for kind, loss in losses.LOSSES.items() if loss.kernel is not None]:
            error = against_float64(losses, student, teacher, kind)
            figure(f"{kind}, {v:,} words: gradient's relative distance", error, "", "torch in float64")
            assert error < 1e-2, f"{kind}: {error}"
            spent = milliseconds(partial(losses.kd_loss, student, teacher, kind=kind))
            figure(
                f"{kind}, {v:,} words: share of the copy bandwidth", useful / spent * 1e3 / copy, "", "the least wanted", 0.7
            )
        if not rehearsal:
            shapes(figure, student, teacher, useful / copy)
        ours = milliseconds(partial(backward, losses.kd_loss, student, teacher))
        for name, peer in peers():
            theirs = milliseconds(partial(backward, peer, student, teacher))
            figure(f"forward and backward, {v:,} words", ours, "ms", name, theirs)


def against_float64(losses, student, teacher, kind: str) -> float:
    """Relative distance of the gradient."""
    import torch

    gradients = []
    for dtype in (student.dtype, torch.float64):
        leaf = student.detach()[:CHECKED].to(dtype).requires_grad_()
        loss = losses.kd_loss(leaf, teacher[:CHECKED].to(dtype), kind=kind)
        gradients.append(torch.autograd.grad(loss.sum(), leaf)[0].double())
    return ((gradients[0] - gradients[1]).norm() / gradients[1].norm()).item()


def shapes(figure: Callable, student, teacher, floor: float) -> None:
    """Forward KL by each shape of the grid, the quickest first."""
    import torch

    from nemo_plugins.distillation import kd_triton

    gradient, found = torch.empty_like(student, requires_grad=False), []
    chosen, multiprocessors = kd_triton.grid, torch.cuda.get_device_properties(0).multi_processor_count
    options = {"kernel": kd_triton.FORWARD_KL, "temperature": 1.0, "skew": 0.1, "gradient": gradient}
    try:
        for share, warps, block in SHAPES:
            shape = (min(student.shape[0], share * multiprocessors), warps, block)
            kd_triton.grid = lambda *_, shape=shape: shape
            spent = milliseconds(lambda: kd_triton.loss(student.detach(), teacher, **options))
            found.append((spent, share, warps, block))
    finally:
        kd_triton.grid = chosen
    for spent, share, warps, block in sorted(found):
        name = (
            f"forward_kl, {student.shape[-1]:,} words, {share} x {warps} warps x {block:,} columns: share of the copy bandwidth"
        )
        figure(name, floor / spent * 1e3)


def peers() -> list[tuple[str, Callable]]:
    """Those that are installed: the loss of each token or their sum, of logits `[s, b, v]`."""
    from types import SimpleNamespace

    from nemo_plugins import platforms

    platforms.prepare()
    from nemo.collections.llm.modelopt.distill.loss import LogitsKLLoss

    nemos = LogitsKLLoss(SimpleNamespace(tensor_model_parallel_size=1))
    made = [("NeMo's LogitsKLLoss", lambda student, teacher: nemos(student, teacher)[0])]
    try:
        from liger_kernel.transformers.kl_div import LigerKLDIVLoss
    except ImportError:
        print("Liger is not installed")
    else:
        ligers = LigerKLDIVLoss(reduction="sum", log_target=True)
        flat = lambda logits: logits.log_softmax(-1).flatten(0, 1)  # noqa: E731
        made.append(("Liger's KL divergence", lambda student, teacher: ligers(flat(student), flat(teacher))))
    return made


def backward(loss: Callable, student, teacher) -> None:
    student.grad = None
    loss(student, teacher).sum().backward()


def bandwidth(size: int, device: str) -> float:
    """Bytes a second that a copy reads and writes."""
    import torch

    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / milliseconds(lambda: target.copy_(source)) * 1e3


def milliseconds(work: Callable) -> float:
    """Median of some runs."""
    import torch

    if torch.cuda.is_available():
        from triton.testing import do_bench

        return do_bench(work, return_mode="median")
    work()
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        spent.append(1e3 * (time.perf_counter() - began))
    return statistics.median(spent)
