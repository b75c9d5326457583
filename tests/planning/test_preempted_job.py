"""The simulation of preempted and failing jobs: by hand, against the closed form, and in its limits."""

import dataclasses
import sys
from math import inf
from pathlib import Path

import pytest

from nemo_plugins.planning import intervals

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import preempted_job  # noqa: E402
from benchmarks.preempted_job import End, Job  # noqa: E402

# 100 steps of 10 s, a checkpoint of 4 s every 10 steps; a start takes 30 s, the queue 120 s
CLUSTER = {
    "steps": 100,
    "step_seconds": 10,
    "checkpoint_every": 10,
    "checkpoint_seconds": 4,
    "start_seconds": 30,
    "requeue_seconds": 120,
}
JOB = Job(**CLUSTER)
HOUR = 3600.0


def timeline(*events, **more):
    return preempted_job.timeline(events, **(CLUSTER | more))


def test_nothing_happens():
    assert timeline() == [(0, 1, 100, 0)]
    (only,) = preempted_job.attempts(JOB)
    assert only.ended == 30 + 100 * 10 + 10 * 4 and only.saves == 10 and only.end is End.done


@pytest.mark.parametrize(
    ("at", "last", "ended"),
    [
        (75, 5, 84),  # in step 5: it is finished and saved
        (130, 10, 134),  # as step 10 ends, whose checkpoint is due
        (132, 11, 148),  # while that is written: step 11 and its checkpoint follow
        (200, 17, 208),
    ],
)
def test_a_signal_loses_no_step(at, last, ended):
    assert timeline(("signal", at)) == [(0, 1, last, 0), (1, last + 1, 100, 0)]
    first, second = preempted_job.attempts(JOB, [("signal", at)])
    assert first.ended == ended and first.end is End.stopped and second.began == ended + 120


def test_a_signal_in_the_start_stops_before_a_step_is_done():
    assert timeline(("signal", 20)) == [(0, 1, 0, 0), (1, 1, 100, 0)]


def test_a_signal_in_the_last_step_changes_nothing():
    assert timeline(("signal", 30 + 9 * 104 + 95)) == timeline()


@pytest.mark.parametrize(
    ("at", "last", "lost"),
    [
        (10, 0, 0),  # in the start
        (75, 4, 4),  # in step 5, before any checkpoint
        (132, 10, 10),  # in the middle of writing the first: it is not whole
        (135, 10, 0),  # right after it
        (30 + 104 + 55, 15, 5),
    ],
)
def test_a_kill_goes_back_to_the_last_whole_checkpoint(at, last, lost):
    assert timeline(("kill", at)) == [(0, 1, last, lost), (1, last - lost + 1, 100, 0)]


def test_a_grace_shorter_than_the_step_and_its_checkpoint_is_a_kill():
    assert timeline(("signal", 75, 9)) == [(0, 1, 5, 0), (1, 6, 100, 0)]
    assert timeline(("signal", 75, 8)) == [(0, 1, 5, 5), (1, 1, 100, 0)]  # the checkpoint is not whole
    assert timeline(("signal", 75, 0)) == timeline(("kill", 75))


def test_a_second_signal_is_a_kill():
    assert timeline(("signal", 71), ("signal", 73)) == [(0, 1, 4, 4), (1, 1, 100, 0)]


def test_what_happens_in_the_queue_happens_to_nobody():
    assert timeline(("kill", 75), ("kill", 80), ("signal", 190)) == timeline(("kill", 75))
    assert timeline(("kill", 75), ("kill", 196)) == [(0, 1, 4, 4), (1, 1, 0, 0), (2, 1, 100, 0)]


def test_a_dead_node_is_seen_late_and_slurms_own_kill_at_once():
    late = dataclasses.replace(JOB, detect_seconds=300)
    assert [made.began for made in preempted_job.attempts(late, [("kill", 75)])] == [0, 75 + 300 + 120]
    assert [made.began for made in preempted_job.attempts(late, [("signal", 75, 0)])] == [0, 75 + 120]


def test_checkpoints_by_the_clock_come_with_those_by_steps():
    job = dataclasses.replace(JOB, checkpoint_minutes=1)  # 60 s are over at the end of the seventh step
    assert [job.next_checkpoint(saved) for saved in (0, 7, 10, 96)] == [7, 10, 17, 100]
    assert timeline(("kill", 30 + 74 + 15), checkpoint_minutes=1) == [(0, 1, 8, 1), (1, 8, 100, 0)]


def test_the_time_limit_is_a_signal_in_time():
    made = list(preempted_job.attempts(dataclasses.replace(JOB, limit_seconds=500, stop_seconds=60)))
    assert [attempt.end for attempt in made] == [End.stopped, End.stopped, End.done]
    assert all(attempt.steps.lost == 0 and attempt.ended - attempt.began <= 500 for attempt in made)


def test_a_time_limit_without_room_for_a_step_is_refused():
    with pytest.raises(ValueError, match="a time limit of 80 s"):
        timeline(limit_seconds=80, stop_seconds=60)
    with pytest.raises(ValueError, match="at least one step"):
        dataclasses.replace(JOB, steps=0)


def test_the_launcher_gives_up_where_nothing_goes_forward():
    kills = [("kill", 50 + 170 * number) for number in range(9)]  # each 20 s into the steps of an attempt
    assert timeline(*kills, requeues=2) == [(0, 1, 2, 2), (1, 1, 2, 2), (2, 1, 2, 2)]
    assert timeline(*kills)[-1] == (9, 1, 100, 0)
    progress = timeline(("kill", 50), ("signal", 275), ("kill", 440), ("kill", 595), requeues=1)
    assert [attempt[0] for attempt in progress] == [0, 1, 2, 3]  # the second attempt went forward: one more chance


def test_without_failures_goodput_is_steps_over_steps_starts_and_checkpoints():
    made = preempted_job.simulate(JOB, runs=3)
    assert made.goodput == pytest.approx(1000 / (1000 + 10 * 4 + 30))
    assert made.error("seconds") == 0 and made.mean("attempts") == 1


def test_the_hours_add_up():
    job = dataclasses.replace(JOB, detect_seconds=30, checkpoint_minutes=1)
    made = preempted_job.simulate(job, mtbf_seconds=400, preempted_seconds=500, grace_seconds=12, runs=50)
    parts = ("useful", "redone", "saving", "starting", "detecting", "queued")
    for one in made.outcomes:
        assert one.finished and one.useful == 1000
        assert sum(getattr(one, part) for part in parts) == pytest.approx(one.seconds)
        assert all(getattr(one, part) >= -1e-9 for part in parts)


def test_preemptions_with_grace_lose_no_step():
    made = preempted_job.simulate(JOB, preempted_seconds=300, grace_seconds=60, runs=50)
    assert made.mean("attempts") > 2
    assert made.mean("steps_lost") == 0
    assert max(one.redone for one in made.outcomes) == pytest.approx(0, abs=1e-9)


def test_a_seed_says_everything():
    made, again, other = (preempted_job.simulate(JOB, mtbf_seconds=400, runs=5, seed=seed) for seed in (1, 1, 2))
    assert made == again and made != other
    more = preempted_job.simulate(JOB, mtbf_seconds=400, runs=9, seed=1)
    assert more.outcomes[:5] == made.outcomes  # further runs change none


@pytest.mark.parametrize("every", [5, 20, 60])
@pytest.mark.parametrize("queue", [0, 600])
def test_the_mean_is_the_closed_forms(every, queue):
    """50 hours with a failure every five; within four standard errors of 400 runs."""
    cluster = (3000, 60, every, 45, 120, queue)
    made = preempted_job.simulate(Job(*cluster), mtbf_seconds=5 * HOUR, runs=400, seed=every)
    exact = preempted_job.expected_seconds(*cluster, 5 * HOUR)
    assert abs(made.mean("seconds") - exact) < 4 * made.error("seconds")
    assert made.error("seconds") < 0.01 * exact


def test_kills_of_two_kinds_are_one_process():
    cluster = (3000, 60, 20, 45, 120, 600)
    made = preempted_job.simulate(Job(*cluster), mtbf_seconds=10 * HOUR, preempted_seconds=10 * HOUR, grace_seconds=0, runs=400)
    assert abs(made.mean("seconds") - preempted_job.expected_seconds(*cluster, 5 * HOUR)) < 4 * made.error("seconds")


def test_dalys_interval_is_the_best_of_the_simulation():
    """Under the same failures, run by run: half and twice as often both lose more."""
    base, mtbf = Job(3000, 60, 1, 45, 120, 600), 5 * HOUR
    best = intervals.steps_between(60, 45, mtbf, 3000)
    goods = [
        preempted_job.simulate(job, mtbf_seconds=mtbf, runs=300).goodput
        for job in (dataclasses.replace(base, checkpoint_every=round(best * factor)) for factor in (0.5, 1, 2))
    ]
    assert goods[1] == max(goods)


def test_no_failure_is_no_event():
    made = preempted_job.simulate(JOB, mtbf_seconds=inf, preempted_seconds=inf, runs=1)
    assert made.outcomes[0].seconds == 30 + 1000 + 40
