"""How far apart the checkpoints of a training should be, and what failures and checkpoints cost: closed forms.

Young, "A first order approximation to the optimum checkpoint interval", CACM 17 (1974), and Daly, "A higher order estimate of
the optimum checkpoint interval for restart dumps", FGCS 22 (2006). Failures are a Poisson process while the job runs; none is
foreseen. `benchmarks/preempted_job.py` simulates the same and what formulas do not hold: signals, grace, time limits.

All times are in seconds; a mean time between failures is the job's, not a node's.
"""

from __future__ import annotations

from math import exp, expm1, floor, inf, isinf, sqrt


def job_mtbf(gpu_hours_between_failures: float, gpus: int) -> float:
    """Mean seconds between failures of a job that a failure of any of its GPUs, or of what they hang on, stops."""
    return gpu_hours_between_failures * 3600 / gpus


def young(checkpoint_seconds: float, mtbf_seconds: float) -> float:
    """Seconds of work between checkpoints, first order: sqrt(2 · δ · M) (Young 1974)."""
    return sqrt(2 * checkpoint_seconds * mtbf_seconds)


def daly(checkpoint_seconds: float, mtbf_seconds: float) -> float:
    """The same with two more terms (Daly 2006): sqrt(2δM) · [1 + ⅓ (δ/2M)^½ + ⅑ (δ/2M)] − δ, or M where δ ≥ 2M.

    It is below Young's by about 2δ/3: the time that a checkpoint itself takes is at risk, too.
    """
    if isinf(mtbf_seconds):
        return inf
    ratio = checkpoint_seconds / (2 * mtbf_seconds)
    if ratio >= 1:
        return mtbf_seconds
    return young(checkpoint_seconds, mtbf_seconds) * (1 + sqrt(ratio) / 3 + ratio / 9) - checkpoint_seconds


def steps_between(step_seconds: float, checkpoint_seconds: float, mtbf_seconds: float, steps: int) -> int:
    """Daly's interval in whole steps, at least 1 and at most all `steps` of the training."""
    return max(1, round(min(steps, daly(checkpoint_seconds, mtbf_seconds) / step_seconds)))


def next_checkpoint(saved: int, steps: int, step_seconds: float, every: int, minutes: float | None) -> int:
    """The step after which a training writes its next checkpoint, so many steps or minutes after the last.

    Args:
        saved: steps in the last one.
    """
    due = (saved // every + 1) * every
    if minutes is not None:  # at the first step whose end is later than that
        due = min(due, saved + floor(60 * minutes / step_seconds) + 1)
    return min(due, steps)


def lost_share(interval: float, checkpoint_seconds: float, mtbf_seconds: float, restart_seconds: float = 0.0) -> float:
    """Share of the time that is no progress: 1 − τ / (M · e^(R/M) · (e^((τ + δ)/M) − 1)), Daly's complete model (2006).

    To first order δ/τ + (τ/2 + R)/M, which Young's interval makes least.
    """
    if isinf(mtbf_seconds):
        return checkpoint_seconds / (interval + checkpoint_seconds)
    attempts = mtbf_seconds * expm1((interval + checkpoint_seconds) / mtbf_seconds)
    return 1 - interval / (exp(restart_seconds / mtbf_seconds) * attempts)
