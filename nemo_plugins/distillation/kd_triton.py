"""The dense, unsharded loss of losses.py as one Triton kernel: a program a token, the logits straight from memory.

Held against losses.py on an H200 (torch 2.11, Triton 3.6; tests/gpu/test_kd_triton.py, 14 passed) and under Triton's
interpreter (tests/distillation/test_kd_triton_interpreted.py). 4,096 tokens there, bf16, loss and gradient: forward KL 0.354 ms
at v = 32,128 and 1.43 ms at 131,072, which is 0.52 and 0.53 of what the card copies (4,250 GB/s) with two rows read and one
written; Jensen–Shannon 0.86 and 3.41 ms (0.22). In fp32 forward KL reaches 0.57: it waits for the arithmetic, not for memory.

A token needs the maxima and sums of both softmaxes first, then Σw, then the gradient (names as in losses.py):

    forward_kl           Σw = −1                                     2 reads of both rows, 1 write of the gradient
    reverse_kl           Σw summed beside the softmaxes, rescaled    2 reads, 1 write
                         whenever a maximum moves
    jsd, skewed_kl       Σw needs both softmaxes' sums: a pass of    3 reads (the third mostly out of the L2 cache), 1 write
                         its own
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # a CPU install has none
    triton = None

BLOCK, WARPS = 2048, 4  # of seven pairs the quickest in bf16 at v = 131,072 on an H200; at 32,128 they hardly differ
NUMBERS = {"forward_kl": 0, "reverse_kl": 1, "jsd": 2, "skewed_kl": 3}


def available(logits: Tensor) -> bool:
    """Whether `loss` can run on these logits: a CUDA tensor, and Triton is installed."""
    return triton is not None and logits.is_cuda


def loss(
    student_logits: Tensor, teacher_logits: Tensor, *, kind: str, temperature: float, skew: float, gradient: Tensor | None
) -> Tensor:
    """Loss of each token times T², `[s, b]` in fp32; what `losses.kd_loss` takes is checked there.

    Args:
        student_logits, teacher_logits: `[s, b, v]` in fp32, bf16 or fp16; copied where a row is not contiguous.
        kind, temperature, skew: as for `losses.kd_loss`.
        gradient: `[s, b, v]`, filled with each token's gradient with respect to its student logits; None: not computed.
    """
    student, teacher = (x if x.stride(-1) == 1 else x.contiguous() for x in (student_logits, teacher_logits))
    s, b, v = student.shape
    result = torch.empty((s, b), dtype=torch.float32, device=student.device)
    if gradient is not None and gradient.stride(-1) != 1:
        raise ValueError(f"the gradient's rows must be contiguous, got strides {gradient.stride()}")
    written = student if gradient is None else gradient  # something with strides; not written without NEED_GRADIENT
    if result.numel():
        _rows[(s * b,)](
            student,
            teacher,
            written,
            result,
            b,
            v,
            *student.stride()[:2],
            *teacher.stride()[:2],
            *written.stride()[:2],
            1.0 / temperature,
            float(temperature),
            math.log(skew) if skew else float("-inf"),
            math.log(1 - skew) if skew < 1 else float("-inf"),
            KIND=NUMBERS[kind],
            NEED_GRADIENT=gradient is not None,
            BLOCK=min(BLOCK, triton.next_power_of_2(v)),
            num_warps=WARPS,
        )
    return result


if triton is not None:
    # What the kernels read of the module must be constexpr.
    FORWARD, REVERSE, JSD = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
    LOG2 = tl.constexpr(math.log(2))

    @triton.jit
    def _finite_or_0(x):
        """A maximum to subtract: −inf − (−inf) would be nan."""
        return tl.where(x == float("-inf"), 0.0, x)

    @triton.jit
    def _log_add_exp(x, y):
        top = tl.maximum(x, y)
        shift = _finite_or_0(top)
        return shift + tl.log(tl.exp(x - shift) + tl.exp(y - shift))

    @triton.jit
    def _log_m(log_t, log_s, log_skew, log_rest, KIND: tl.constexpr):
        if KIND == JSD:
            return _log_add_exp(log_t, log_s) - LOG2
        return _log_add_exp(log_t + log_skew, log_s + log_rest)

    @triton.jit
    def _rows(
        student,
        teacher,
        gradient,
        result,
        b,
        v,
        student_s,
        student_b,
        teacher_s,
        teacher_b,
        gradient_s,
        gradient_b,
        scale,
        temperature,
        log_skew,
        log_rest,
        KIND: tl.constexpr,
        NEED_GRADIENT: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        """One token. Pointers, sizes, strides in elements, 1/T, T, log skew and log (1 − skew); columns past v read as −inf."""
        row = tl.program_id(0).to(tl.int64)  # 64 bits: s·b·v passes 2³¹ at 16,384 tokens of 131,072
        position, sample = row // b, row % b
        student += position * student_s + sample * student_b
        teacher += position * teacher_s + sample * teacher_b
        gradient += position * gradient_s + sample * gradient_b
        lowest = float("-inf")

        # Maxima and sums of both softmaxes; for the reverse KL also Σ e^(z − max z)·((z − max z) − (y − max y)).
        top_s, sum_s, top_t, sum_t, cross = lowest, 0.0, lowest, 0.0, 0.0
        for start in range(0, v, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            inside = columns < v
            z = tl.load(student + columns, mask=inside, other=lowest).to(tl.float32) * scale
            y = tl.load(teacher + columns, mask=inside, other=lowest).to(tl.float32) * scale
            new_s, new_t = tl.maximum(top_s, tl.max(z, 0)), tl.maximum(top_t, tl.max(y, 0))
            z, y = z - _finite_or_0(new_s), y - _finite_or_0(new_t)
            e = tl.exp(z)
            kept = tl.exp(top_s - _finite_or_0(new_s))  # e^−∞ = 0 in the first block
            if KIND == REVERSE:
                # A finite sum before the maxima moved, with the moved distance added to each of its logarithms.
                moved = (_finite_or_0(top_s) - _finite_or_0(new_s)) - (_finite_or_0(top_t) - _finite_or_0(new_t))
                before = tl.where(sum_s * kept == 0, 0.0, kept * (cross + sum_s * moved))
                cross = before + tl.sum(tl.where(e == 0, 0.0, e * (z - y)), 0)
            sum_s = sum_s * kept + tl.sum(e, 0)
            sum_t = sum_t * tl.exp(top_t - _finite_or_0(new_t)) + tl.sum(tl.exp(y), 0)
            top_s, top_t = new_s, new_t
        log_sum_s, log_sum_t = tl.log(sum_s), tl.log(sum_t)

        divergence, sum_w = 0.0, 0.0
        if KIND == FORWARD:
            sum_w = -1.0
        elif KIND == REVERSE:
            divergence = cross / sum_s - log_sum_s + log_sum_t
            sum_w = divergence
        else:
            for start in range(0, v, BLOCK):
                columns = start + tl.arange(0, BLOCK)
                inside = columns < v
                z = tl.load(student + columns, mask=inside, other=lowest).to(tl.float32) * scale
                y = tl.load(teacher + columns, mask=inside, other=lowest).to(tl.float32) * scale
                log_s, log_t = (z - top_s) - log_sum_s, (y - top_t) - log_sum_t
                log_m = _log_m(log_t, log_s, log_skew, log_rest, KIND)
                s, t = tl.exp(log_s), tl.exp(log_t)
                from_t = tl.where(t == 0, 0.0, t * (log_t - log_m))
                if KIND == JSD:
                    w = tl.where(s == 0, 0.0, 0.5 * s * (log_s - log_m))
                    divergence += tl.sum(0.5 * from_t + w, 0)
                else:
                    w = tl.where(t == 0, 0.0, -tl.exp((log_t - log_m) + log_s + log_rest))
                    divergence += tl.sum(from_t, 0)
                sum_w += tl.sum(w, 0)

        if NEED_GRADIENT or KIND == FORWARD:
            for start in range(0, v, BLOCK):
                columns = start + tl.arange(0, BLOCK)
                inside = columns < v
                z = tl.load(student + columns, mask=inside, other=lowest).to(tl.float32) * scale
                y = tl.load(teacher + columns, mask=inside, other=lowest).to(tl.float32) * scale
                log_s, log_t = (z - top_s) - log_sum_s, (y - top_t) - log_sum_t
                s, t = tl.exp(log_s), tl.exp(log_t)
                if KIND == FORWARD:
                    divergence += tl.sum(tl.where(t == 0, 0.0, t * (log_t - log_s)), 0)
                    w = -t
                elif KIND == REVERSE:
                    w = tl.where(s == 0, 0.0, s * (log_s - log_t))
                elif KIND == JSD:
                    log_m = _log_m(log_t, log_s, log_skew, log_rest, KIND)
                    w = tl.where(s == 0, 0.0, 0.5 * s * (log_s - log_m))
                else:
                    log_m = _log_m(log_t, log_s, log_skew, log_rest, KIND)
                    w = tl.where(t == 0, 0.0, -tl.exp((log_t - log_m) + log_s + log_rest))
                if NEED_GRADIENT:
                    tl.store(gradient + columns, (temperature * (w - s * sum_w)).to(gradient.dtype.element_ty), mask=inside)
        tl.store(result + row, divergence * temperature * temperature)
