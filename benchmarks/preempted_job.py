"""What becomes of a training on a cluster that preempts it and whose nodes fail: attempts, steps lost, goodput.

The model is what the launcher and the recipe do. A signal (USR1, SIGTERM) lets the step finish, a checkpoint is written, the
job is requeued: no step is lost. A kill (SIGKILL of a rank, a node down) takes the job back to its last whole checkpoint. Steps
take the same time, and so do checkpoints, starts and the queue. Seconds count from the instant that the first attempt starts.

`timeline` follows given events, to be held against what a cluster did; `simulate` draws them.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from math import ceil, exp, expm1, floor, inf, isinf, sqrt
from typing import NamedTuple

from nemo_plugins.planning import intervals


class Interruption(StrEnum):
    """How a job is interrupted."""

    signal = "signal"  # USR1 or SIGTERM reaches the recipe
    kill = "kill"  # SIGKILL of a rank, a node down: nothing can be written any more


class Event(NamedTuple):
    """At `at` seconds; `grace` is how long after a signal the kill comes (a partition's GraceTime, Slurm's KillWait)."""

    kind: Interruption | str
    at: float
    grace: float = inf


class End(StrEnum):
    """How an attempt ends."""

    done = "done"
    stopped = "stopped"  # by a signal, at a checkpoint: exit code 75
    killed = "killed"


class Steps(NamedTuple):
    """The steps of an attempt, from 1; `last` is `first − 1` where none was finished.

    `attempt` counts from 0, as SLURM_RESTART_COUNT does; `lost` steps were finished after the last whole checkpoint and are
    done again by the next attempt.
    """

    attempt: int
    first: int
    last: int
    lost: int


@dataclass(frozen=True)
class Job:
    """A training and its cluster.

    Attributes:
        checkpoint_every: steps; `distill.checkpoint_every`.
        checkpoint_seconds: that training stands still while one is written.
        start_seconds: from the job's start to the first step: imports, pre-flight, loading.
        requeue_seconds: from the end of an attempt to the start of the next.
        checkpoint_minutes: also when so long has passed since the last; `distill.checkpoint_minutes`.
        detect_seconds: from a `kill` event to the end of the job: what Slurm or NCCL takes to see that a node is gone. A kill
            of Slurm's own (the grace or the time limit is over) is seen at once.
        limit_seconds: the job's time limit. The recipe stops by itself `stop_seconds` before it, as at a signal.
        requeues: so many in a row after attempts without a newer checkpoint, then the launcher gives up; None: never.
    """

    steps: int
    step_seconds: float
    checkpoint_every: int
    checkpoint_seconds: float
    start_seconds: float
    requeue_seconds: float
    checkpoint_minutes: float | None = None
    detect_seconds: float = 0.0
    limit_seconds: float = inf
    stop_seconds: float = 300.0
    requeues: int | None = None

    def __post_init__(self):
        if self.steps < 1 or self.checkpoint_every < 1 or not self.step_seconds > 0:
            raise ValueError("expected at least one step, a checkpoint every step or less often, and steps that take time")

    def next_checkpoint(self, saved: int) -> int:
        """The step after which the next checkpoint is written, `saved` steps being in the last one."""
        return intervals.next_checkpoint(saved, self.steps, self.step_seconds, self.checkpoint_every, self.checkpoint_minutes)


@dataclass(frozen=True)
class Attempt:
    """One start of the job.

    Attributes:
        began, ended: seconds.
        resumed, last, saved: steps in the checkpoint that it resumed from, finished at its end, in the newest checkpoint then.
        saves: checkpoints that it wrote whole.
        unseen: seconds after `ended` until the job was over.
    """

    number: int
    began: float
    ended: float
    resumed: int
    last: int
    saved: int
    saves: int
    end: End
    unseen: float

    @property
    def steps(self) -> Steps:
        return Steps(self.number, self.resumed + 1, self.last, self.last - self.saved)


def timeline(
    events: Iterable[Event | tuple],
    steps: int,
    step_seconds: float,
    checkpoint_every: int,
    checkpoint_seconds: float,
    start_seconds: float,
    requeue_seconds: float,
    **more,
) -> list[Steps]:
    """What each attempt of a training does where it is interrupted at given instants.

    To be held against a cluster: measure the seconds of a step, of a checkpoint, of a start and of a requeue in an
    uninterrupted run and a requeue of the same job, note when each interruption reached it, and compare
    `(attempt, first, last, lost)` of each attempt with the steps that its log shows. An instant that lies as near to the end of
    a step or of a checkpoint as the measurement errs can fall to either side: ask in the middle of one.

    What counts as what: USR1 or SIGTERM is `signal` (`grace`: until Slurm's SIGKILL; `scontrol requeue` and preemption send
    SIGTERM and kill KillWait or GraceTime later); SIGKILL of a rank and a node set down are `kill`.

    - A signal acts when the step under way is finished. One that comes while a checkpoint is written lets the next step be
      done, and a checkpoint of it be written, too; one that comes in the start lets the start finish and no step be done; one
      in the last step changes nothing. A second signal before the attempt has ended is a kill.
    - A kill in the middle of writing loses that checkpoint: only one that is whole counts.
    - Nothing happens to a job in the queue: events before the next attempt begins are dropped.

    Args:
        events: (kind, seconds since the first attempt's start) or (kind, seconds, grace), ordered by time.
        more: further attributes of `Job`.
    Returns: the attempts in order. The last one did step `steps` unless the launcher gave up.
    """
    job = Job(steps, step_seconds, checkpoint_every, checkpoint_seconds, start_seconds, requeue_seconds, **more)
    return [attempt.steps for attempt in attempts(job, events)]


def attempts(job: Job, events: Iterable[Event | tuple] = ()) -> Iterator[Attempt]:
    """The attempts of a job under events that are ordered by time, as they come; `timeline` says what happens when.

    Raises:
        ValueError: the time limit leaves no room for a step and its checkpoint, so that the job would be requeued for ever.
    """
    coming = (Event(*each) for each in events)
    ahead: list[Event] = []
    began, ended, saved, idle = 0.0, -inf, 0, 0
    for number in count():
        ahead = [event for event in ahead if event.at >= began and event.at > ended]  # without a queue both are one instant
        while len(ahead) < 2 and (event := next(coming, None)):  # an attempt heeds at most a signal and what comes after it
            if event.at >= began:
                ahead.append(event)
        made = _attempt(job, number, began, saved, *_heeded(job, began, ahead))
        yield made
        if made.end is End.done:
            return
        idle = 0 if made.saved > saved else idle + 1
        if job.requeues is not None and idle > job.requeues:
            return
        if idle and not ahead and job.requeues is None:
            raise ValueError(f"a time limit of {job.limit_seconds:g} s leaves no room for a step and its checkpoint")
        saved = made.saved
        ended, began = made.ended, made.ended + made.unseen + job.requeue_seconds


def _heeded(job: Job, began: float, ahead: list[Event]) -> tuple[float, float, float]:
    """When an attempt is asked to stop, when it is killed, and how long that stays unseen; infinity: never."""
    asked = began + max(0.0, job.limit_seconds - job.stop_seconds)
    kills = [(began + job.limit_seconds, 0.0)]
    if ahead and ahead[0].kind != Interruption.kill and ahead[0].at <= asked:
        first, *ahead = ahead
        asked = first.at
        kills.append((first.at + first.grace, 0.0))
    kills += [(event.at, job.detect_seconds if event.kind == Interruption.kill else 0.0) for event in ahead]
    return asked, *min(kills)


def _attempt(job: Job, number: int, began: float, resumed: int, asked: float, killed: float, unseen: float) -> Attempt:
    """From checkpoint to checkpoint until the job is done, has stopped or is killed. Times are seconds, infinity: never."""

    def made(ended: float, last: int, end: End) -> Attempt:
        return Attempt(number, began, ended, resumed, last, saved, saves, end, unseen if end is End.killed else 0.0)

    now, saved, saves = began + job.start_seconds, resumed, 0
    if killed < now:
        return made(killed, resumed, End.killed)
    if asked <= now:
        return made(now, resumed, End.stopped)
    while True:
        target, stop = job.next_checkpoint(saved), False
        if asked < inf:
            heeds = saved + max(1, ceil((asked - now) / job.step_seconds))
            if stop := heeds <= target and heeds < job.steps:
                target = heeds
        computed = now + (target - saved) * job.step_seconds
        if killed < computed:
            return made(killed, saved + floor((killed - now) / job.step_seconds), End.killed)
        if killed < computed + job.checkpoint_seconds:
            return made(killed, target, End.killed)
        now, saved, saves = computed + job.checkpoint_seconds, target, saves + 1
        if saved == job.steps:
            return made(now, saved, End.done)
        if stop:
            return made(now, saved, End.stopped)


@dataclass(frozen=True)
class Outcome:
    """Where the seconds of one run went; they add up to `seconds`.

    Attributes:
        useful: steps that were kept.
        redone: steps, whole or not, and checkpoints that a kill took.
        saving, starting, detecting, queued: checkpoints, starts, dead but not yet seen to be, waiting.
    """

    seconds: float
    useful: float
    redone: float
    saving: float
    starting: float
    detecting: float
    queued: float
    attempts: int
    steps_lost: int
    finished: bool


def outcome(job: Job, events: Iterable[Event | tuple] = ()) -> Outcome:
    """One run, reckoned up."""
    seconds = useful = redone = saving = starting = detecting = 0.0
    lost = 0
    for made in attempts(job, events):
        kept, start = (made.saved - made.resumed) * job.step_seconds, min(job.start_seconds, made.ended - made.began)
        wrote = made.saves * job.checkpoint_seconds
        useful, saving, starting = useful + kept, saving + wrote, starting + start
        redone += made.ended - made.began - start - wrote - kept
        lost += made.steps.lost
        detecting += made.unseen
        seconds = made.ended + made.unseen
    queued = made.number * job.requeue_seconds
    return Outcome(seconds, useful, redone, saving, starting, detecting, queued, made.number + 1, lost, made.end is End.done)


@dataclass(frozen=True)
class Simulation:
    """Runs of one job under events drawn by chance."""

    outcomes: tuple[Outcome, ...]

    @property
    def goodput(self) -> float:
        """Share of the time from the first start to the end, queue included, that went into steps that were kept."""
        return sum(one.useful for one in self.outcomes) / sum(one.seconds for one in self.outcomes)

    def mean(self, name: str) -> float:
        """Of an attribute of `Outcome`."""
        return sum(getattr(one, name) for one in self.outcomes) / len(self.outcomes)

    def error(self, name: str) -> float:
        """Standard error of that mean."""
        number, mean = len(self.outcomes), self.mean(name)
        return sqrt(sum((getattr(one, name) - mean) ** 2 for one in self.outcomes) / max(1, number - 1) / number)


def simulate(
    job: Job,
    *,
    mtbf_seconds: float = inf,
    preempted_seconds: float = inf,
    grace_seconds: float = inf,
    runs: int = 1000,
    seed: int = 0,
) -> Simulation:
    """Runs of a job whose nodes fail and which is preempted, both as Poisson processes.

    Run k of a seed meets the same events whatever the job's checkpoints are, so that two intervals can be compared run by run.

    Args:
        mtbf_seconds: mean time between failures of the job: kills.
        preempted_seconds: mean time between preemptions: signals. A job that stops already is not preempted again.
        grace_seconds: from a preemption's signal to its kill; 0: no warning.
    """
    outcomes = []
    stopping = min(grace_seconds, max(job.start_seconds, job.step_seconds + 2 * job.checkpoint_seconds))
    for run in range(runs):
        failures = _poisson(random.Random(f"{seed} {run} failures"), mtbf_seconds, Interruption.kill)
        draw = random.Random(f"{seed} {run} preemptions")
        preemptions = _poisson(draw, preempted_seconds, Interruption.signal, grace_seconds, stopping)
        events = heapq.merge(failures, preemptions, key=lambda event: event.at)
        outcomes.append(outcome(job, events))
    return Simulation(tuple(outcomes))


def _poisson(draw: random.Random, mean: float, kind: Interruption, grace: float = inf, gap: float = 0.0) -> Iterator[Event]:
    """Events a mean time apart, `gap` besides between each and the next."""
    at = -gap
    while mean < inf:
        at += gap + draw.expovariate(1 / mean)
        yield Event(kind, at, grace)


def expected_seconds(
    steps: int,
    step_seconds: float,
    checkpoint_every: int,
    checkpoint_seconds: float,
    start_seconds: float,
    requeue_seconds: float,
    mtbf_seconds: float,
) -> float:
    """Expected time from a job's first start to its last checkpoint, queue included: exact for Poisson failures.

    A segment of L = interval + checkpoint must pass without a failure, and so must each start of s; a failure costs the queue,
    q, in which nothing fails, and a start. With M the mean time between failures that gives e^(s/M) · (M + q) · (e^(L/M) − 1)
    a segment and (M + q) · (e^(s/M) − 1) for the first start. For q = 0 a segment's is that of `intervals.lost_share`.
    """
    whole, rest = divmod(steps, checkpoint_every)
    segments = [(whole, checkpoint_every * step_seconds + checkpoint_seconds)]
    if rest:
        segments.append((1, rest * step_seconds + checkpoint_seconds))
    if isinf(mtbf_seconds):
        return start_seconds + sum(number * length for number, length in segments)
    lost = mtbf_seconds + requeue_seconds
    again = exp(start_seconds / mtbf_seconds)
    return lost * (
        expm1(start_seconds / mtbf_seconds) + again * sum(number * expm1(length / mtbf_seconds) for number, length in segments)
    )


def least_expected(
    steps: int,
    step_seconds: float,
    checkpoint_seconds: float,
    start_seconds: float,
    requeue_seconds: float,
    mtbf_seconds: float,
) -> int:
    """The number of steps between checkpoints with the least `expected_seconds`: tries them all. The fewest of equals."""
    return min(
        range(1, steps + 1),
        key=lambda every: expected_seconds(
            steps, step_seconds, every, checkpoint_seconds, start_seconds, requeue_seconds, mtbf_seconds
        ),
    )
