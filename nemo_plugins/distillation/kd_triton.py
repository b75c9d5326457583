"""The dense, unsharded loss of losses.py as one Triton kernel: few programs, each a row of the logits after another.

Held against losses.py under Triton's interpreter, and compiled for Hopper within the registers of its multiprocessors
(tests/distillation/test_kd_triton_interpreted.py). Not run on a GPU: its predecessor, a program a token, was
(tests/gpu/README.md), and reached 0.52 of the copy bandwidth, two rows read and one written. It read both rows twice with
some thousand rows in flight, more than the L2 cache holds, so that 0.60 was its ceiling. What differs here:

    rows in flight     one or two programs a multiprocessor, as many as have their rows in the L2 cache: 34 MB at v = 32,128
    later passes       go the other way, so that they begin with what was read last: where the rows do not fit (69 MB at
                       v = 131,072) a part of them is still there; the last pass says that its lines may go
    reductions         each thread keeps the maximum and sum of its own columns: the threads of a program wait for each other
                       once a pass, not once a block

A row needs the maxima and sums of both softmaxes first, then Σw, then the gradient (names as in losses.py; d = log s − log t):

    forward_kl           Σw = −1                                     2 passes
    reverse_kl           Σw summed with the softmaxes, rescaled      2 passes
                         whenever a maximum moves
    jsd, skewed_kl       Σw needs both softmaxes' sums: a pass of    3 passes
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

FORWARD_KL, REVERSE_KL, JSD, SKEWED_KL = range(4)  # the kernel's losses; `losses.LOSSES` names them
SHAPES = {2: (16, 4096), 1: (32, 8192)}  # programs a multiprocessor: warps and columns at a time of each
LANES_BYTES = 16  # what a thread loads at once
L2_SHARE = 0.75  # of the L2 cache, for the rows that are read again
LEAST_SKEW = 2.0**-64  # below it skew·t is no fp32 number where it matters
ON_A_CPU = (2, 32 * 2**20)  # multiprocessors and bytes of L2 cache that the interpreter plays


def available(logits: Tensor, kernel: int | None, skew: float = 0.1) -> bool:
    """Whether `loss` can run: CUDA logits, Triton installed, and a loss and a skew that the kernel has."""
    return triton is not None and logits.is_cuda and covers(kernel, skew)


def covers(kernel: int | None, skew: float) -> bool:
    """Whether the kernel has this loss. A skew of 0 is forward KL; one of 1 is no loss at all and left to losses.py."""
    return kernel is not None and (kernel != SKEWED_KL or skew == 0 or LEAST_SKEW <= skew < 1)


def loss(
    student_logits: Tensor, teacher_logits: Tensor, *, kernel: int, temperature: float, skew: float, gradient: Tensor | None
) -> Tensor:
    """Loss of each token times T², `[s, b]` in fp32; what `losses.kd_loss` takes is checked there.

    Args:
        student_logits, teacher_logits: `[s, b, v]` in fp32, bf16 or fp16; copied where a row is not contiguous.
        kernel: number of the loss. temperature, skew: as for `losses.kd_loss`. `covers` has loss and skew.
        gradient: `[s, b, v]`, filled with each token's gradient with respect to its student logits; None: not computed.
    """
    if not covers(kernel, skew):
        raise ValueError(f"the kernel has no loss {kernel} with skew {skew}: see kd_triton.covers")
    student, teacher = (x if x.stride(-1) == 1 else x.contiguous() for x in (student_logits, teacher_logits))
    s, b, v = student.shape
    result = torch.empty((s, b), dtype=torch.float32, device=student.device)
    if gradient is not None and gradient.stride(-1) != 1:
        raise ValueError(f"the gradient's rows must be contiguous, got strides {gradient.stride()}")
    written = student if gradient is None else gradient  # something with strides; not written without NEED_GRADIENT
    if result.numel():
        programs, warps, block = grid(s * b, v * (student.element_size() + teacher.element_size()), student.device)
        lanes = LANES_BYTES // max(student.element_size(), teacher.element_size())
        _rows[(programs,)](
            student,
            teacher,
            written,
            result,
            s * b,
            programs,
            b,
            v,
            *student.stride()[:2],
            *teacher.stride()[:2],
            *written.stride()[:2],
            1.0 / (temperature * math.log(2)),
            float(temperature),
            float(skew),
            KIND=FORWARD_KL if kernel == SKEWED_KL and skew == 0 else kernel,
            NEED_GRADIENT=gradient is not None,
            GROUPS=max(1, min(block, triton.next_power_of_2(v)) // lanes),
            LANES=lanes,
            num_warps=warps,
        )
    return result


def grid(rows: int, pair_bytes: int, device: torch.device) -> tuple[int, int, int]:
    """Programs, and warps and columns at a time of each, for rows of so many bytes of both logits: two programs a
    multiprocessor where all their rows stay in the L2 cache, else one."""
    multiprocessors, cache = ON_A_CPU
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        multiprocessors, cache = properties.multi_processor_count, properties.L2_cache_size
    share = 2 if 2 * multiprocessors * pair_bytes <= L2_SHARE * cache else 1
    return min(rows, share * multiprocessors), *SHAPES[share]


if triton is not None:
    # What the kernels read of the module must be constexpr.
    FORWARD, REVERSE, SYMMETRIC = tl.constexpr(FORWARD_KL), tl.constexpr(REVERSE_KL), tl.constexpr(JSD)
    LN2 = tl.constexpr(math.log(2))

    @triton.jit
    def _finite_or_0(x):
        """A maximum to subtract: −inf − (−inf) would be nan."""
        return tl.where(x == float("-inf"), 0.0, x)

    @triton.jit
    def _block(row, columns, v, LAST: tl.constexpr):
        """Logits of some columns, −inf past v; LAST: nobody reads them again."""
        if LAST:
            x = tl.load(row + columns, mask=columns < v, other=float("-inf"), eviction_policy="evict_first")
        else:
            x = tl.load(row + columns, mask=columns < v, other=float("-inf"), eviction_policy="evict_last")
        return x.to(tl.float32)

    @triton.jit
    def _moved(cross, sum_s, top_s, new_s, top_t, new_t, bits):
        """Σ 2^(z − max z)·((z − max z) − (y − max y)) for new maxima: each of its logarithms moves by as much."""
        kept = tl.exp2((top_s - new_s) * bits)
        moved = (_finite_or_0(top_s) - new_s) - (_finite_or_0(top_t) - new_t)
        return tl.where(sum_s * kept == 0, 0.0, kept * (cross + sum_s * moved))

    @triton.jit
    def _terms(log_s, log_t, skew, KIND: tl.constexpr):
        """s, and what sums to the loss / T² and to Σw (the table in losses.py), by d = log s − log t, all logarithms in bits.

        0 where it counts as 0. For skewed_kl w has no logarithm in it, so no unit.
        """
        s, t, d = tl.exp2(log_s), tl.exp2(log_t), log_s - log_t
        if KIND == FORWARD:
            return s, tl.where(t == 0, 0.0, -t * d), -t
        elif KIND == REVERSE:
            w = tl.where(s == 0, 0.0, s * d)
            return s, w, w
        else:
            x = tl.exp2(-tl.abs(d))
            if KIND == SYMMETRIC:  # m/t = ½ (1 + 2^d), m/s = ½ (1 + 2^−d)
                log_half = tl.log2(1 + x) - 1
                w = tl.where(s == 0, 0.0, 0.5 * s * (tl.minimum(d, 0.0) - log_half))
                return s, w - tl.where(t == 0, 0.0, 0.5 * t * (tl.maximum(d, 0.0) + log_half)), w
            else:  # m/t = skew + (1 − skew)·2^d, with 2^d taken out where it is large
                mixed = tl.where(d > 0, 1 - skew + skew * x, skew + (1 - skew) * x)
                w = tl.where(t == 0, 0.0, (skew - 1) * s * (tl.where(d > 0, x, 1.0) / mixed))
                return s, tl.where(t == 0, 0.0, -t * (tl.maximum(d, 0.0) + tl.log2(mixed))), w

    @triton.jit
    def _rows(
        student,
        teacher,
        gradient,
        result,
        rows,
        programs,
        b,
        v,
        student_s,
        student_b,
        teacher_s,
        teacher_b,
        gradient_s,
        gradient_b,
        bits,
        temperature,
        skew,
        KIND: tl.constexpr,
        NEED_GRADIENT: tl.constexpr,
        GROUPS: tl.constexpr,
        LANES: tl.constexpr,
    ):
        """Every `programs`-th token. Pointers, sizes, strides in elements, log2 e / T, T.

        A thread has whole groups of LANES columns. Logarithms are in bits: only exp2 is one instruction.
        """
        lowest = float("-inf")
        block = tl.arange(0, GROUPS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
        blocks = tl.cdiv(v, GROUPS * LANES)
        for token in range(tl.program_id(0), rows, programs):
            row = tl.full((), 0, tl.int64) + token  # 64 bits: s·b·v passes 2³¹ at 16,384 tokens of 131,072
            position, sample = row // b, row % b
            z_row = student + position * student_s + sample * student_b
            y_row = teacher + position * teacher_s + sample * teacher_b
            g_row = gradient + position * gradient_s + sample * gradient_b

            # Maxima and sums of both softmaxes, by group; for the reverse KL also `cross` (see _moved).
            top_s, top_t = tl.full([GROUPS], lowest, tl.float32), tl.full([GROUPS], lowest, tl.float32)
            sum_s, sum_t = tl.zeros([GROUPS], tl.float32), tl.zeros([GROUPS], tl.float32)
            cross = tl.zeros([GROUPS], tl.float32)
            for i in range(blocks):
                columns = i * (GROUPS * LANES) + block
                z, y = _block(z_row, columns, v, False), _block(y_row, columns, v, False)
                new_s, new_t = tl.maximum(top_s, tl.max(z, 1)), tl.maximum(top_t, tl.max(y, 1))
                shift_s, shift_t = _finite_or_0(new_s), _finite_or_0(new_t)
                z, y = z - shift_s[:, None], y - shift_t[:, None]
                e = tl.exp2(z * bits)
                if KIND == REVERSE:
                    cross = _moved(cross, sum_s, top_s, shift_s, top_t, shift_t, bits)
                    cross += tl.sum(tl.where(e == 0, 0.0, e * (z - y)), 1)
                sum_s = sum_s * tl.exp2((top_s - shift_s) * bits) + tl.sum(e, 1)  # 2^−∞ = 0 in the first block
                sum_t = sum_t * tl.exp2((top_t - shift_t) * bits) + tl.sum(tl.exp2(y * bits), 1)
                top_s, top_t = new_s, new_t
            shift_s, shift_t = _finite_or_0(tl.max(top_s, 0)), _finite_or_0(tl.max(top_t, 0))
            total_s = tl.sum(sum_s * tl.exp2((top_s - shift_s) * bits), 0)
            total_t = tl.sum(sum_t * tl.exp2((top_t - shift_t) * bits), 0)
            log_sum_s, log_sum_t = tl.log2(total_s), tl.log2(total_t)

            terms, sum_w = tl.zeros([GROUPS], tl.float32), 0.0
            if KIND == FORWARD:
                sum_w = -1.0
            elif KIND == REVERSE:
                cross = tl.sum(_moved(cross, sum_s, top_s, shift_s, top_t, shift_t, bits), 0)
                sum_w = cross * bits / total_s - log_sum_s + log_sum_t
            else:
                of_w = tl.zeros([GROUPS], tl.float32)
                for i in range(blocks):
                    columns = (blocks - 1 - i) * (GROUPS * LANES) + block
                    log_s = (_block(z_row, columns, v, False) - shift_s) * bits - log_sum_s
                    log_t = (_block(y_row, columns, v, False) - shift_t) * bits - log_sum_t
                    s, term, w = _terms(log_s, log_t, skew, KIND)
                    terms += tl.sum(term, 1)
                    of_w += tl.sum(w, 1)
                sum_w = tl.sum(of_w, 0)

            if NEED_GRADIENT or KIND == FORWARD:
                unit = temperature * (LN2 if KIND == REVERSE or KIND == SYMMETRIC else 1.0)
                for i in range(blocks):
                    columns = (blocks - 1 - i if KIND <= REVERSE else i) * (GROUPS * LANES) + block
                    log_s = (_block(z_row, columns, v, True) - shift_s) * bits - log_sum_s
                    log_t = (_block(y_row, columns, v, True) - shift_t) * bits - log_sum_t
                    s, term, w = _terms(log_s, log_t, skew, KIND)
                    if KIND == FORWARD:
                        terms += tl.sum(term, 1)
                    if NEED_GRADIENT:
                        g = (unit * (w - s * sum_w)).to(gradient.dtype.element_ty)
                        tl.store(g_row + columns, g, mask=columns < v, eviction_policy="evict_first")
            divergence = sum_w if KIND == REVERSE else tl.sum(terms, 0)
            tl.store(result + row, divergence * (LN2 * temperature * temperature))
