"""Which steps may reach the weights."""

import pytest

from nemo_plugins import runs
from nemo_plugins.configs.schema import BadStep
from nemo_plugins.planning import grpo_plan
from nemo_plugins.runs.prepare import compose
from nemo_plugins.training.bad_steps import LEAST, MOST, WINDOW, Guard


def guard(action=BadStep.skip, spike=3.0, losses=(2.0,) * LEAST):
    made = Guard(action, spike, 8, "distill")
    made.losses.extend(losses)
    return made


@pytest.mark.parametrize(
    ("made", "loss", "norm", "reason"),
    [
        (guard(), 5.9, 1.0, 0),
        (guard(), 6.1, 1.0, 3),
        (guard(losses=(2.0,) * (LEAST - 1)), 6.1, 1.0, 0),
        (guard(losses=(2.0,) * LEAST + (90.0,)), 6.1, 1.0, 3),  # a median: one bad loss does not move it
        (guard(spike=None), 1e9, 1.0, 0),
        (guard(spike=None), float("nan"), 1.0, 1),
        (guard(spike=None), float("inf"), 1.0, 1),
        (guard(spike=None), 2.0, float("nan"), 2),
        (guard(spike=None), 2.0, float("inf"), 2),
    ],
)
def test_reason(made, loss, norm, reason):
    assert made.reason(loss, norm) == reason


def test_stop_names_step_samples_and_the_way_on():
    with pytest.raises(runs.Failed) as failed:
        guard(BadStep.stop).refuse(12, 1, float("nan"), 1.0)
    said = str(failed.value)
    assert "step 13, samples 96 to 103" in said and "nan" in said and "distill.bad_step=skip" in said


def test_skips_are_told_and_end_when_they_do_not_end():
    made = guard()
    for step in range(MOST - 1):
        made.skipped_in_a_row += 1
        made.refuse(step, 2, 2.0, float("inf"))
    assert len(made.events) == MOST - 1 and "gradient is inf" in made.events[0]
    made.skipped_in_a_row += 1
    with pytest.raises(runs.Failed, match="in a row"):
        made.refuse(MOST, 2, 2.0, float("inf"))


def test_a_resumed_run_knows_the_losses_before():
    made, again = guard(losses=range(2 * WINDOW)), guard(losses=())
    made.skipped_in_a_row = 3
    again.load_state_dict(made.state_dict())
    assert list(again.losses) == list(range(WINDOW, 2 * WINDOW)) and again.skipped_in_a_row == 3


def test_a_loss_around_0_has_no_spikes():
    with pytest.raises(runs.UserError, match="grpo.spike=3: this loss lies around 0"):
        grpo_plan.plan(compose(["+model=tiny_pl", "experiment=laptop", "grpo.spike=3"]))
