"""The loss benchmark's measures on losses whose memory, values and needs are known, and its tables."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from nemo_plugins.distillation import in_chunks
from nemo_plugins.distillation.losses import kd_loss

TOKENS, V = 16, 500
BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "kd_loss.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("kd_loss_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """As those of a real vocabulary are beside its logits."""
    monkeypatch.setitem(in_chunks.LEAST_BYTES, "cpu", 0)


def materialised(student, teacher):
    """The forward KL as NeMo writes it: four fp32 tensors as large as the logits, and more."""
    student, teacher = student.float().log_softmax(-1), teacher.float().softmax(-1)
    return functional.kl_div(student, teacher, reduction="none").sum(-1)


def test_the_peak_is_what_a_loss_holds_besides_its_gradient(benchmark):
    student, teacher = benchmark.logits(TOKENS, V, "float32")
    # exp keeps its result for the backward pass, beside the gradient: one tensor more; the product keeps nothing.
    for of, tensors in ((lambda s, t: s.exp().sum(-1), 1), (lambda s, t: (s * 2).sum(-1), 0)):
        assert 0 <= benchmark.peak(of, student, teacher) - tensors * student.nbytes <= 100 * TOKENS


def test_values_find_a_difference_of_known_size(benchmark, monkeypatch):
    student, teacher = benchmark.logits(TOKENS, V, "float32")
    monkeypatch.setattr(benchmark, "SLICE", 8 * V * 5)  # 16 tokens in slices of 5: the last is shorter
    same = benchmark.values(kd_loss, materialised, student, teacher)
    assert all(0 < x < 1e-6 for found in same.values() for x in found)

    def last_token_off(student, teacher):
        return kd_loss(student, teacher) * torch.tensor([1.0] * (TOKENS - 1) + [1.001])[:, None]

    of_loss, gradient, worst = benchmark.values(last_token_off, materialised, student, teacher)["ours to float64"]
    assert of_loss == pytest.approx(1e-3, rel=0.01) and worst == pytest.approx(1e-3, rel=0.01)
    assert 1e-4 < gradient < 5e-4  # about 1/4: one token of 16, in the norm over all


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_need_is_found_from_short_runs(benchmark, dtype):
    for of in (materialised, kd_loss):
        student, teacher = benchmark.logits(1024, V, dtype)
        whole = 3 * student.nbytes + benchmark.peak(of, student, teacher)
        assert benchmark.need(of, 1024, V, dtype) == pytest.approx(whole, rel=0.05)


def test_the_tables_and_what_does_not_fit(benchmark, monkeypatch, capsys):
    losses = {benchmark.NEMO: materialised, benchmark.OURS: kd_loss}
    benchmark.compare(losses, 1024, [V], "float32", 2)
    nemos, ours = (line for line in capsys.readouterr().out.splitlines() if " MiB " in line)
    assert float(ours.split("|")[-2]) < 0.1 and float(nemos.split("|")[-2]) == 1

    tensor = 1024 * V * 4  # ours takes a little over 3, the other more than 6
    monkeypatch.setattr(benchmark, "free_memory", lambda: benchmark.ROOM + 4 * tensor)
    benchmark.compare(losses, 1024, [V], "float32", 2)
    out = capsys.readouterr().out
    assert f"| {V} | {benchmark.NEMO} | left out: needs about" in out
    assert f"| {V} | {benchmark.OURS} | " in out and "| – |" in out and "NeMo's to float64" in out
