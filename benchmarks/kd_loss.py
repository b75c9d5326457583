"""Time, memory and values of the distillation loss, forward and backward, against NeMo's LogitsKLLoss and TRL's.

    python benchmarks/kd_loss.py [--tokens 4096] [--vocabularies 32128 131072] [--dtypes bf16 fp32] [--repeats 5] [--fresh]

Every repeat runs all losses in turn, so that what else the machine does falls on all of them; printed are the median time, and
the median and range of its ratio to NeMo's in the same repeat. On a CPU the C library is told to keep freed memory
(`KEEP_PAGES`), as torch's allocator does on a GPU: else a loss that asks for tensors as large as the logits would mostly wait
for the operating system to hand out their pages, and the ratio would be of that. `--fresh` measures it so.

Memory is the peak above the two logits and the student's gradient, which no loss can do without: on a GPU the allocator's
statistics, on a CPU the allocator's record in torch's profiler. A loss that needs more than is free, as far as two short runs
tell, is left out, and said to be.

Values are those of the measured logits, over all tokens; the second table has the relative differences

    loss              max over tokens of |a − b| / |b|
    gradient          ‖a − b‖ / ‖b‖ over all tokens; "worst token": the same of each token's row, the largest

between ours and NeMo's, and of each to float64: two fp32 computations cannot agree better than they are right. No element by
itself is compared, since s − t cancels where they meet. In bf16 the gradients are rounded to 8 bits, and differ where that goes
another way.

TRL works in the logits' own dtype: in bf16 it is a coarser computation, and its memory is that of bf16 temporaries. Liger is
not compared: its losses are Triton kernels, which take a GPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

NEMO, OURS, TOP_K, TRL = "NeMo LogitsKLLoss", "ours", "ours, top_k 64", "TRL generalized_jsd_loss, β 0"
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
MIB, GIB = 2**20, 2**30
SLICE = 32 * MIB  # of logits in float64, when values are compared
ROOM = GIB // 2  # of what is free, left to all else
KEEP_PAGES = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**60), "MALLOC_TOP_PAD_": str(64 * MIB)}  # glibc's


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32128, 131072])
    parser.add_argument("--dtypes", choices=DTYPES, nargs="+", default=list(DTYPES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="let freed memory go back to the system")
    given = parser.parse_args()
    cases = [(dtype, v) for dtype in given.dtypes for v in given.vocabularies]
    if len(cases) > 1 or not (given.fresh or KEEP_PAGES.items() <= os.environ.items()):
        environment = os.environ | ({} if given.fresh else KEEP_PAGES)  # read by the C library as it starts
        for dtype, v in cases:  # each in a process of its own: none finds its memory in another's pieces
            case = [*sys.argv, "--dtypes", dtype, "--vocabularies", str(v)]
            if code := subprocess.call([sys.executable, *case], env=environment):
                return code
        return 0

    import torch

    losses = {name: loss(name) for name in (NEMO, OURS, TOP_K)}
    try:
        losses[TRL] = loss(TRL)
    except ImportError as error:
        print(f"TRL is not compared: {error}")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"a CPU, {torch.get_num_threads()} thread(s)"
    print(f"\n{given.tokens:,} tokens, {given.dtypes[0]} logits, {given.repeats} repeats, {where}\n")
    compare(losses, given.tokens, given.vocabularies, DTYPES[given.dtypes[0]], given.repeats)
    return 0


def compare(losses: dict[str, Callable], tokens: int, vocabularies: list[int], dtype: str, repeats: int) -> None:
    """Print the two tables of one dtype. What memory is free for is found anew for each vocabulary, just before it is used."""
    differences = []
    print("| vocabulary | loss | time | to NeMo's (range) | peak above logits and gradient | to NeMo's |")
    print("|---:|---|---:|---:|---:|---:|")
    for v in vocabularies:
        fits = those_that_fit(losses, tokens, v, dtype)
        if not fits:
            continue
        student, teacher = logits(tokens, v, dtype)
        seconds, peaks = measure(fits, student, teacher, repeats)
        for name in fits:
            spread = share = "–"
            if NEMO in fits:
                ratios = [one / nemos for one, nemos in zip(seconds[name], seconds[NEMO], strict=True)]
                spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                share = f"{peaks[name] / peaks[NEMO]:.4f}"
            spent = f"{1000 * statistics.median(seconds[name]):,.0f} ms | {spread} | {peaks[name] / MIB:,.1f} MiB | {share}"
            print(f"| {v:,} | {name} | {spent} |", flush=True)
        if OURS in fits:  # NeMo's by slices, whether or not it fits as a whole
            for pair, found in values(losses[OURS], losses[NEMO], student, teacher).items():
                differences.append(f"| {v:,} | {pair} | {' | '.join(f'{x:.1e}' for x in found)} |")
        del student, teacher
    print("\n| vocabulary | relative difference | loss | gradient | gradient, worst token |")
    print("\n".join(["|---:|---|---:|---:|---:|", *differences]), flush=True)


def loss(name: str) -> Callable:
    """The forward KL of each token, `[s, b]`, of a student's and a teacher's logits `[s, b, v]`, under that name."""
    if name in (OURS, TOP_K):
        from nemo_plugins.distillation.losses import kd_loss

        top_k = 64 if name == TOP_K else None
        return lambda student, teacher: kd_loss(student, teacher, top_k=top_k)
    from nemo_plugins import platforms

    platforms.prepare()
    if name == NEMO:
        from types import SimpleNamespace

        from nemo.collections.llm.modelopt.distill.loss import LogitsKLLoss

        nemos = LogitsKLLoss(SimpleNamespace(tensor_model_parallel_size=1))
        return lambda student, teacher: nemos(student, teacher)[0].transpose(0, 1)  # it gives [b, s]
    from trl.experimental.gkd import GKDTrainer

    trls = GKDTrainer.generalized_jsd_loss
    return lambda student, teacher: trls(student, teacher, beta=0, reduction="none").sum(-1)


def logits(tokens: int, v: int, dtype: str) -> tuple:
    """A student's and a teacher's, `[tokens, 1, v]`, always the same, drawn in their own dtype: no larger copy is made."""
    import torch

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student, teacher = (torch.empty(tokens, 1, v, dtype=getattr(torch, dtype), device=device).normal_(0, 2) for _ in range(2))
    return student.requires_grad_(), teacher


def those_that_fit(losses: dict[str, Callable], tokens: int, v: int, dtype: str) -> dict[str, Callable]:
    """The losses for which memory is free; the others are named in the table."""
    free, fits = free_memory(), {}
    for name, of in losses.items():
        wanted = need(of, tokens, v, dtype)
        if wanted <= free - ROOM:
            fits[name] = of
        else:
            lacking = f"left out: needs about {wanted / GIB:.1f} GiB, {free / GIB:.1f} GiB are free"
            print(f"| {v:,} | {name} | {lacking} | | | |", flush=True)
    return fits


def need(of: Callable, tokens: int, v: int, dtype: str) -> float:
    """Bytes that a loss will take with its logits and gradient: the line through the peaks of two short runs."""
    few = max(1, tokens // 128)
    short, double = (peak(of, *logits(n, v, dtype)) for n in (few, 2 * few))
    student, _ = logits(1, v, dtype)
    return 3 * tokens * student.nbytes + short + (double - short) / few * (tokens - few)


def free_memory() -> int:
    """Bytes that the GPU, or without one the machine, can give now."""
    import psutil
    import torch

    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available


def measure(losses: dict[str, Callable], student, teacher, repeats: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of forward and backward, for each loss as many as there are repeats, and its `peak`, from a run before them."""
    peaks = {name: peak(of, student, teacher) for name, of in losses.items()}
    seconds = {name: [] for name in losses}
    for _ in range(repeats):
        for name, of in losses.items():
            student.grad = None
            start = now()
            of(student, teacher).sum().backward()
            seconds[name].append(now() - start)
    student.grad = None
    return seconds, peaks


def now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak(of: Callable, student, teacher) -> int:
    """Bytes at the peak of forward and backward, above the two logits and the student's gradient."""
    import torch

    student.grad = None
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        of(student, teacher).sum().backward()
        return torch.cuda.max_memory_allocated() - before - student.nbytes
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as record:
        of(student, teacher).sum().backward()
    held = highest = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    return highest - student.nbytes


def values(ours: Callable, nemos: Callable, student, teacher) -> dict[str, tuple[float, float, float]]:
    """Relative differences of the loss, the gradient and the worst token's gradient, for ours and NeMo's and float64.

    Ours is the run of all tokens at once; the other two go through them by slices.
    """
    import torch

    def run(of: Callable, student, teacher) -> tuple:
        leaf = student.detach().requires_grad_()
        of_tokens = of(leaf, teacher)
        (gradient,) = torch.autograd.grad(of_tokens.sum(), leaf)
        return of_tokens.detach().double(), gradient

    our_loss, our_gradient = run(ours, student, teacher)
    found = {"ours to NeMo's": [], "ours to float64": [], "NeMo's to float64": []}
    step = max(1, SLICE // (8 * student.shape[-1]))
    for i in range(0, student.shape[0], step):
        at = slice(i, i + step)
        log_s, log_t = (x.detach()[at].double().log_softmax(-1) for x in (student, teacher))
        exact = (log_t.exp() * (log_t - log_s)).sum(-1), log_s.exp() - log_t.exp()
        one, other = (our_loss[at], our_gradient[at]), run(nemos, student[at], teacher[at])
        for name, (a, b) in zip(found, ((one, other), (one, exact), (other, exact)), strict=True):
            size, difference = b[1].double().norm(dim=-1), (a[1].double() - b[1]).norm(dim=-1)
            found[name].append(torch.stack([(a[0] - b[0]).abs() / b[0].abs(), difference, size]).flatten(1))
    result = {}
    for name, slices in found.items():
        of_loss, difference, size = torch.cat(slices, -1)
        result[name] = of_loss.max().item(), (difference.norm() / size.norm()).item(), (difference / size).max().item()
    return result


if __name__ == "__main__":
    sys.exit(main())
