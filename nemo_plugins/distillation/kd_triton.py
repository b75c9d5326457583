"""The dense loss of losses.py as a Triton kernel: few programs, each a row of the logits after another.

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

Where the vocabulary is split over a tensor-parallel group each pass is a kernel of its own, and between two of them a few
numbers a token are reduced over the group: maxima, then sums, then Σw or the loss. What is read of the logits is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, distributed

try:
    import triton
    import triton.language as tl
except ImportError:  # a CPU install has none
    triton = None

FORWARD_KL, REVERSE_KL, JSD, SKEWED_KL = range(4)  # the kernel's losses; `losses.LOSSES` names them
SUMS, WEIGHTS, GRADIENT = range(3)  # the passes over a shard
TOPS, TOTALS, OF_W, TERMS = slice(0, 2), slice(2, 4), 4, 5  # what a group shares of each token, student's before teacher's
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
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    kernel: int,
    temperature: float,
    skew: float,
    gradient: Tensor | None,
    group: distributed.ProcessGroup | None = None,
) -> Tensor:
    """Loss of each token times T², `[s, b]` in fp32; what `losses.kd_loss` takes is checked there.

    Args:
        student_logits, teacher_logits: `[s, b, v/tp]` in fp32, bf16 or fp16; copied where a row is not contiguous.
        kernel: number of the loss. temperature, skew, group: as for `losses.kd_loss`. `covers` has loss and skew.
        gradient: `[s, b, v/tp]`, filled with each token's gradient with respect to its student logits; None: not computed.
    """
    if not covers(kernel, skew):
        raise ValueError(f"the kernel has no loss {kernel} with skew {skew}: see kd_triton.covers")
    student, teacher = (x if x.stride(-1) == 1 else x.contiguous() for x in (student_logits, teacher_logits))
    s, b, v = student.shape
    result = torch.empty((s, b), dtype=torch.float32, device=student.device)
    if gradient is not None and gradient.stride(-1) != 1:
        raise ValueError(f"the gradient's rows must be contiguous, got strides {gradient.stride()}")
    written = student if gradient is None else gradient  # something with strides; not written without NEED_GRADIENT
    if not result.numel():
        return result
    programs, warps, block = grid(s * b, v * (student.element_size() + teacher.element_size()), student.device)
    lanes = LANES_BYTES // max(student.element_size(), teacher.element_size())
    kernel = FORWARD_KL if kernel == SKEWED_KL and skew == 0 else kernel
    bits = 1.0 / (temperature * math.log(2))

    def launch(function, numbers: Tensor, **parts: int) -> None:
        function[(programs,)](
            student,
            teacher,
            written,
            numbers,
            s * b,
            programs,
            b,
            v,
            *student.stride()[:2],
            *teacher.stride()[:2],
            *written.stride()[:2],
            bits,
            float(temperature),
            float(skew),
            KIND=kernel,
            NEED_GRADIENT=gradient is not None,
            GROUPS=max(1, min(block, triton.next_power_of_2(v)) // lanes),
            LANES=lanes,
            num_warps=warps,
            **parts,
        )

    if group is None:
        launch(_rows, result)
    else:
        shared = torch.zeros((6, s * b), dtype=torch.float32, device=student.device)
        divergence = _over_shards(lambda part: launch(_shard, shared, PART=part), shared, kernel, bits, gradient is None, group)
        result.copy_(divergence.view(s, b)).mul_(math.log(2) * temperature**2)
    return result


def _over_shards(
    launch: Callable[[int], None], shared: Tensor, kernel: int, bits: float, loss_alone: bool, group: distributed.ProcessGroup
) -> Tensor:
    """Loss / T² of each token in bits, `[tokens]`, from the passes over this process's shard.

    Args:
        launch: runs a pass, which reads and writes `shared`, `[6, tokens]`: `TOPS`, `TOTALS`, `OF_W` and `TERMS`.
    """

    def reduce(values: Tensor, operation=distributed.ReduceOp.SUM) -> None:
        distributed.all_reduce(values, operation, group)

    launch(SUMS)
    own, (total, _) = shared[TOPS].clone(), shared[TOTALS]
    reduce(shared[TOPS], distributed.ReduceOp.MAX)
    top = shared[TOPS].masked_fill_(shared[TOPS] == float("-inf"), 0)
    kept = torch.exp2((own - top) * bits)
    if kernel == REVERSE_KL:  # `_moved`, below
        moved = own.masked_fill(own == float("-inf"), 0) - top
        cross = kept[0] * (shared[OF_W] + total * (moved[0] - moved[1]))
        shared[OF_W] = cross.masked_fill_(total * kept[0] == 0, 0)
    shared[TOTALS] *= kept
    reduce(shared[2:5])
    if kernel == REVERSE_KL:
        logs = shared[TOTALS].log2()
        shared[OF_W] = shared[OF_W] * bits / shared[TOTALS][0] - logs[0] + logs[1]
    elif kernel != FORWARD_KL:
        launch(WEIGHTS)
        reduce(shared[4:])
    if kernel == FORWARD_KL or not loss_alone:
        launch(GRADIENT)
    if kernel == FORWARD_KL:
        reduce(shared[TERMS])
    return shared[OF_W if kernel == REVERSE_KL else TERMS]


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
    OF_SUMS, OF_WEIGHTS = tl.constexpr(SUMS), tl.constexpr(WEIGHTS)
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
    def _softmaxes(z_row, y_row, block, v, bits, KIND: tl.constexpr, GROUPS: tl.constexpr, LANES: tl.constexpr):
        """Maximum (−inf of nothing else) and sum of each softmax, the student's first; for the reverse KL also `cross`."""
        lowest = float("-inf")
        top_s, top_t = tl.full([GROUPS], lowest, tl.float32), tl.full([GROUPS], lowest, tl.float32)
        sum_s, sum_t = tl.zeros([GROUPS], tl.float32), tl.zeros([GROUPS], tl.float32)
        cross = tl.zeros([GROUPS], tl.float32)
        for i in range(tl.cdiv(v, GROUPS * LANES)):
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
        all_s, all_t = tl.max(top_s, 0), tl.max(top_t, 0)
        shift_s, shift_t = _finite_or_0(all_s), _finite_or_0(all_t)
        total_s = tl.sum(sum_s * tl.exp2((top_s - shift_s) * bits), 0)
        total_t = tl.sum(sum_t * tl.exp2((top_t - shift_t) * bits), 0)
        if KIND == REVERSE:
            cross = _moved(cross, sum_s, top_s, shift_s, top_t, shift_t, bits)
        return all_s, all_t, total_s, total_t, tl.sum(cross, 0)

    @triton.jit
    def _log(row, columns, v, shift, bits, log_sum, LAST: tl.constexpr):
        """Log-probabilities of some columns in bits."""
        return (_block(row, columns, v, LAST) - shift) * bits - log_sum

    @triton.jit
    def _weights(
        z_row, y_row, block, v, bits, shift_s, shift_t, log_sum_s, log_sum_t, skew,
        KIND: tl.constexpr, GROUPS: tl.constexpr, LANES: tl.constexpr,
    ):  # fmt: skip
        """The loss / T² and Σw, from the last block to the first."""
        terms, of_w = tl.zeros([GROUPS], tl.float32), tl.zeros([GROUPS], tl.float32)
        blocks = tl.cdiv(v, GROUPS * LANES)
        for i in range(blocks):
            columns = (blocks - 1 - i) * (GROUPS * LANES) + block
            log_s = _log(z_row, columns, v, shift_s, bits, log_sum_s, False)
            log_t = _log(y_row, columns, v, shift_t, bits, log_sum_t, False)
            s, term, w = _terms(log_s, log_t, skew, KIND)
            terms += tl.sum(term, 1)
            of_w += tl.sum(w, 1)
        return tl.sum(terms, 0), tl.sum(of_w, 0)

    @triton.jit
    def _gradient(
        z_row, y_row, g_row, block, v, bits, shift_s, shift_t, log_sum_s, log_sum_t, sum_w, temperature, skew,
        KIND: tl.constexpr, NEED_GRADIENT: tl.constexpr, GROUPS: tl.constexpr, LANES: tl.constexpr,
    ):  # fmt: skip
        """Write the gradient, the other way than the pass before. Returns the loss / T² of the forward KL."""
        terms = tl.zeros([GROUPS], tl.float32)
        unit = temperature * (LN2 if KIND == REVERSE or KIND == SYMMETRIC else 1.0)
        blocks = tl.cdiv(v, GROUPS * LANES)
        for i in range(blocks):
            columns = (blocks - 1 - i if KIND <= REVERSE else i) * (GROUPS * LANES) + block
            log_s = _log(z_row, columns, v, shift_s, bits, log_sum_s, True)
            log_t = _log(y_row, columns, v, shift_t, bits, log_sum_t, True)
            s, term, w = _terms(log_s, log_t, skew, KIND)
            if KIND == FORWARD:
                terms += tl.sum(term, 1)
            if NEED_GRADIENT:
                g = (unit * (w - s * sum_w)).to(g_row.dtype.element_ty)
                tl.store(g_row + columns, g, mask=columns < v, eviction_policy="evict_first")
        return tl.sum(terms, 0)

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
        block = tl.arange(0, GROUPS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
        for token in range(tl.program_id(0), rows, programs):
            row = tl.full((), 0, tl.int64) + token  # 64 bits: s·b·v passes 2³¹ at 16,384 tokens of 131,072
            position, sample = row // b, row % b
            z_row = student + position * student_s + sample * student_b
            y_row = teacher + position * teacher_s + sample * teacher_b
            g_row = gradient + position * gradient_s + sample * gradient_b

            top_s, top_t, total_s, total_t, cross = _softmaxes(z_row, y_row, block, v, bits, KIND, GROUPS, LANES)
            shift_s, shift_t = _finite_or_0(top_s), _finite_or_0(top_t)
            log_sum_s, log_sum_t = tl.log2(total_s), tl.log2(total_t)
            divergence, sum_w = 0.0, -1.0
            if KIND == REVERSE:
                sum_w = cross * bits / total_s - log_sum_s + log_sum_t
                divergence = sum_w
            elif KIND != FORWARD:
                divergence, sum_w = _weights(
                    z_row, y_row, block, v, bits, shift_s, shift_t, log_sum_s, log_sum_t, skew, KIND, GROUPS, LANES
                )
            if NEED_GRADIENT or KIND == FORWARD:
                terms = _gradient(
                    z_row, y_row, g_row, block, v, bits, shift_s, shift_t, log_sum_s, log_sum_t, sum_w, temperature, skew,
                    KIND, NEED_GRADIENT, GROUPS, LANES,
                )  # fmt: skip
                if KIND == FORWARD:
                    divergence = terms
            tl.store(result + row, divergence * (LN2 * temperature * temperature))

    @triton.jit
    def _shard(
        student,
        teacher,
        gradient,
        shared,
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
        PART: tl.constexpr,
    ):
        """One pass of `_rows` over a shard of the vocabulary; `shared`, `[6, rows]`, has what passes leave to one another."""
        block = tl.arange(0, GROUPS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
        for token in range(tl.program_id(0), rows, programs):
            row = tl.full((), 0, tl.int64) + token
            position, sample = row // b, row % b
            z_row = student + position * student_s + sample * student_b
            y_row = teacher + position * teacher_s + sample * teacher_b
            g_row = gradient + position * gradient_s + sample * gradient_b
            numbers = shared + row
            if PART == OF_SUMS:
                top_s, top_t, total_s, total_t, cross = _softmaxes(z_row, y_row, block, v, bits, KIND, GROUPS, LANES)
                tl.store(numbers, top_s)
                tl.store(numbers + rows, top_t)
                tl.store(numbers + 2 * rows, total_s)
                tl.store(numbers + 3 * rows, total_t)
                tl.store(numbers + 4 * rows, cross)
            else:
                shift_s, shift_t = tl.load(numbers), tl.load(numbers + rows)
                log_sum_s, log_sum_t = tl.log2(tl.load(numbers + 2 * rows)), tl.log2(tl.load(numbers + 3 * rows))
                if PART == OF_WEIGHTS:
                    terms, of_w = _weights(
                        z_row, y_row, block, v, bits, shift_s, shift_t, log_sum_s, log_sum_t, skew, KIND, GROUPS, LANES
                    )
                    tl.store(numbers + 4 * rows, of_w)
                    tl.store(numbers + 5 * rows, terms)
                else:
                    sum_w = tl.load(numbers + 4 * rows)
                    if KIND == FORWARD:
                        sum_w = -1.0
                    terms = _gradient(
                        z_row, y_row, g_row, block, v, bits, shift_s, shift_t, log_sum_s, log_sum_t, sum_w, temperature, skew,
                        KIND, NEED_GRADIENT, GROUPS, LANES,
                    )  # fmt: skip
                    if KIND == FORWARD:
                        tl.store(numbers + 5 * rows, terms)
