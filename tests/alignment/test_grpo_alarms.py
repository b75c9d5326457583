"""Signs of collapse, said once and with what to try."""

import json

import pytest

from nemo_plugins.alignment.grpo_alarms import Alarms
from nemo_plugins.configs.schema import GroupLoss, GrpoConfig

FINE = {"entropy": 1.0, "length": 20.0, "identical": 0.2, "truncated": 0.0, "signal": 0.5}


class Folder:
    def __init__(self, folder, lines=()):
        self.folder, self.lines = folder, lines

    def read_metrics(self):
        return iter(self.lines)


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [
        ("entropy", 0.05, "clip_high"),
        ("length", 70.0, "dr_grpo"),
        ("length", 5.0, "kl_coef"),
        ("identical", 0.99, "temperature"),
        ("truncated", 0.8, "max_tokens"),
        ("signal", 0.01, "group_size"),
        ("mismatch", 0.03, "max_mismatch"),
    ],
)
def test_each_collapse_is_told_with_a_remedy_and_once(tmp_path, what, value, says):
    alarms = Alarms(Folder(tmp_path), GrpoConfig())
    for step in range(3):
        assert not alarms.look(step, FINE)
    told = alarms.look(3, FINE | {what: value})
    assert len(told) == 1 and says in told[0]
    assert not alarms.look(4, FINE | {what: value}), "the same again"
    assert not alarms.look(5, FINE)
    assert alarms.look(6, FINE | {what: value}), "it was fine in between"
    assert [json.loads(line)["step"] for line in (tmp_path / "alarms.jsonl").read_text().splitlines()] == [3, 6]


def test_a_loss_that_counts_each_token_alike_is_not_advised_against_its_lengths(tmp_path):
    alarms = Alarms(Folder(tmp_path, [FINE] * 3), GrpoConfig(kind=GroupLoss.dapo))
    (told,) = alarms.look(3, FINE | {"length": 70.0})
    assert "kl_coef" in told and "dr_grpo" not in told


def test_a_resumed_run_knows_how_it_was_at_first(tmp_path):
    alarms = Alarms(Folder(tmp_path, [FINE, {"loss": 1.0}, FINE, FINE]), GrpoConfig())
    assert alarms.look(9, FINE | {"entropy": 0.05})


def test_an_engine_without_entropies_has_no_alarm_for_them(tmp_path):
    told = {key: value for key, value in FINE.items() if key != "entropy"}
    alarms = Alarms(Folder(tmp_path), GrpoConfig())
    assert not any(alarms.look(step, told) for step in range(5))


def test_they_can_be_switched_off(tmp_path):
    alarms = Alarms(Folder(tmp_path), GrpoConfig(alarms=False))
    assert not alarms.look(0, FINE | {"identical": 1.0})
