"""Intervals between checkpoints: closed forms against each other and against a search."""

import sys
from math import exp, inf, sqrt
from pathlib import Path

import pytest

from nemo_plugins.planning import intervals

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import preempted_job  # noqa: E402

HOUR = 3600.0


def test_dalys_interval_is_youngs_with_two_more_terms():
    assert intervals.young(10, 5 * HOUR) == pytest.approx(600)
    ratio = 10 / (2 * 5 * HOUR)
    assert intervals.daly(10, 5 * HOUR) == pytest.approx(600 * (1 + sqrt(ratio) / 3 + ratio / 9) - 10)
    assert intervals.daly(0.001, 5 * HOUR) == pytest.approx(intervals.young(0.001, 5 * HOUR), rel=1e-3)
    assert intervals.daly(100, 40) == 40  # checkpoints that take longer than the machine lives
    assert intervals.daly(10, inf) == inf


@pytest.mark.parametrize(("saving", "mtbf"), [(10, 50 * HOUR), (60, 5 * HOUR), (300, 5 * HOUR), (600, HOUR)])
def test_dalys_interval_is_next_to_the_best_of_all(saving, mtbf):
    best = min(range(1, 40_000), key=lambda interval: intervals.lost_share(interval, saving, mtbf))
    assert intervals.daly(saving, mtbf) == pytest.approx(best, rel=0.01)
    # what Young's adds is nothing to speak of while a checkpoint is short beside the time between failures
    young, daly = (intervals.lost_share(each(saving, mtbf), saving, mtbf) for each in (intervals.young, intervals.daly))
    assert daly <= young < daly + 0.01


def test_what_is_lost_is_the_first_order_where_failures_are_rare():
    interval, saving, restart, mtbf = 600.0, 1.0, 30.0, 1e6
    first = saving / interval + (interval / 2 + restart) / mtbf
    assert intervals.lost_share(interval, saving, mtbf, restart) == pytest.approx(first, rel=0.01)
    assert intervals.lost_share(interval, saving, inf) == pytest.approx(1 / 601)


def test_expected_seconds_are_dalys_complete_model_without_a_queue():
    mtbf, segments = 2 * HOUR, 10
    made = preempted_job.expected_seconds(100, 60, 10, 30, 90, 0, mtbf)
    first = mtbf * (exp(90 / mtbf) - 1)
    assert made == pytest.approx(first + segments * mtbf * exp(90 / mtbf) * (exp(630 / mtbf) - 1))
    work = 100 * 60
    assert work / (made - first) == pytest.approx(1 - intervals.lost_share(600, 30, mtbf, 90))


def test_without_failures_only_starts_and_checkpoints_cost():
    assert preempted_job.expected_seconds(25, 2, 10, 3, 7, 1000, inf) == 7 + 25 * 2 + 3 * 3  # the last 5 steps are saved, too
    almost = preempted_job.expected_seconds(25, 2, 10, 3, 7, 1000, 1e9)
    assert almost == pytest.approx(7 + 25 * 2 + 3 * 3, rel=1e-4)


def test_steps_are_whole_and_at_least_one():
    assert intervals.steps_between(100, 10, 5 * HOUR, 8000) == 6
    assert intervals.steps_between(1000, 1, 60, 8000) == 1
    assert intervals.steps_between(1, 10, inf, 8000) == 8000


def test_the_least_expected_interval_is_dalys():
    found = preempted_job.least_expected(1000, 30, 20, 60, 120, 20 * HOUR)
    assert found == pytest.approx(intervals.daly(20, 20 * HOUR) / 30, rel=0.1)
