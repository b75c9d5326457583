"""Layouts over nodes, and the page that shows them."""

import dataclasses
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

from nemo_plugins.configs.schema import Recompute
from nemo_plugins.planning import checkpoint_plan, checks, cost_plan, distill_plan, estimate, layout, memory
from nemo_plugins.planning.plan import Plan
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from benchmarks import scaling  # noqa: E402

ON_16 = ("experiment=minitron_7b", "platform.devices=8", "platform.nodes=2")


@pytest.fixture(scope="module")
def found():
    given = scaling.arguments([])
    return {"distill": scaling.distillations(given), "sft": scaling.alignments(given)}


def test_every_layout_fits_and_is_what_a_stage_would_accept(found):
    for made in (*found["distill"].values(), *found["sft"].values()):
        need = memory.training(made.student, made.train, made.platform, 2, made.teacher).total
        assert need * 1.2 <= 80 * 2**30
        models = {"student": made.student} | ({"teacher": made.teacher} if made.teacher else {})
        checks.platform(Plan(""), made.platform, models)
        assert made.platform.tensor_parallel <= 8
        assert made.train.global_batch_size % made.copies == 0 and made.micro_batches >= 1
        assert made.train.max_steps * made.train.global_batch_size >= (8_000_000 if made.teacher else 1)


def test_a_split_is_the_least_that_is_needed(found):
    made = found["distill"]["11 B", 2]
    assert (made.platform.tensor_parallel, made.platform.pipeline_parallel, made.copies) == (2, 1, 8)
    alone = dataclasses.replace(made, platform=dataclasses.replace(made.platform, tensor_parallel=1))
    assert not alone.fits


def test_without_bubble_recompute_and_a_slow_network_the_time_is_the_planners(found):
    made = found["distill"]["11 B", 2]
    planned = estimate.make(compose(["+model=bielik11b", *ON_16]))
    assert made.train.max_steps * made.step_seconds / 3600 == pytest.approx(planned.gpu_hours / 16)
    assert made.days == pytest.approx(planned.days)


def test_what_a_layout_adds_to_a_step(found):
    made = found["distill"]["70 B", 2]  # recomputed, and two stages
    assert made.platform.recompute is Recompute.full and made.platform.pipeline_parallel == 2
    forward, teacher = (model.flops_per_token(8192) for model in (made.student, made.teacher))
    flops = (4 * forward + teacher) * made.step_tokens
    assert made.step_seconds == pytest.approx(flops / (16 * 989.4e12 * 0.4) * (1 + 1 / made.micro_batches))


def test_a_network_that_is_too_slow_is_waited_for():
    made = scaling.distillations(scaling.arguments(["--nodes", "32"]))["11 B", 32]
    ranks, share = made.copies, made.student.parameters() / made.platform.tensor_parallel
    assert made.exchanged == pytest.approx(6 * share * (ranks - 1) / ranks)
    at_the_bound, slower = (dataclasses.replace(made, network=made.hiding_bandwidth / factor) for factor in (1, 2))
    assert at_the_bound.step_seconds == pytest.approx(made.step_seconds)
    assert slower.step_seconds == pytest.approx(made.step_seconds + made.backward)
    assert dataclasses.replace(made, network=inf).step_seconds == made.step_seconds


def test_a_jobs_own_batch_and_steps_stay_and_tensor_parallelism_within_a_node(found):
    made = found["sft"]["11 B", 2]
    for nodes, devices in ((2, 8), (4, 4), (8, 2)):
        platform = dataclasses.replace(made.platform, nodes=nodes, devices=devices, tensor_parallel=1)
        best = layout.choose(dataclasses.replace(made, platform=platform))
        assert best.train == made.train and best.gpus == 16
        assert best.fits and best.platform.tensor_parallel <= devices


def test_nothing_is_chosen_where_nothing_fits():
    given = scaling.arguments(["--nodes", "1"])
    assert scaling.distillations(given)["70 B", 1] is None
    assert "none fits" in scaling.layouts(scaling.distillations(given))


def test_the_page_shows_what_the_command_prints():
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "scaling.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    page = (REPOSITORY / "docs" / "scaling.md").read_text()
    tables = [part for part in printed.strip().split("\n\n") if part.startswith("|")]
    assert len(tables) == 6
    for table in tables:
        assert table in page, f"docs/scaling.md lacks this table of `python benchmarks/scaling.py`:\n{table}"


def test_a_plan_says_how_often_to_write_a_checkpoint():
    for made in (
        cost_plan.plan(compose(["+model=bielik11b", *ON_16])),
        distill_plan.plan(compose(["+model=bielik11b", *ON_16])),
    ):
        rows = dict(next(part for part in made.tables if part.title.startswith("Checkpoints and failures")).rows)
        assert rows["a checkpoint"].startswith("104.69 GB, 10.5 s")  # 14 bytes of each of 7,477,727,232 parameters
        assert rows["a failure on 16 GPUs"].startswith("every 132 days")  # 54 · 16,384 / 419 / 16
        assert "every 18 steps, 30.1 min" in rows["lost as configured"]  # distill.checkpoint_minutes comes before the 200 steps
        assert rows[""] == "distill.checkpoint_every=154 distill.checkpoint_minutes=null"


def test_more_failures_more_checkpoints():
    cfg = compose(["+model=bielik11b", *ON_16])
    made = estimate.make(cfg)
    often = []
    for hours in (1e3, 1e4, 1e5):
        cfg.plan.gpu_hours_between_failures = hours
        advice = checkpoint_plan.advise(cfg.plan, cfg.distill, 16, 2, made.student, made.teacher)
        often.append(advice.recommended)
        assert advice.lost(advice.recommended) <= min(advice.lost(max(1, advice.recommended // 2)), advice.lost(8000))
    assert often == sorted(often) and often[0] < often[-1]


def test_a_step_longer_than_the_stop_before_the_jobs_end_is_a_warning():
    made = cost_plan.plan(compose(["+model=bielik11b", "platform.kind=gpu"]))  # one GPU: 1,606 s a step
    (said,) = [warning for warning in made.warnings if "stop_minutes" in warning]
    assert "distill.stop_minutes=5" in said and "distill.stop_minutes=33" in said
    made = cost_plan.plan(compose(["+model=bielik11b", "platform.kind=gpu", "distill.stop_minutes=33"]))
    assert not [warning for warning in made.warnings if "stop_minutes" in warning]


@pytest.mark.parametrize("key", ["storage_gb_s", "gpu_hours_between_failures"])
def test_assumptions_that_cannot_be_are_refused(key):
    with pytest.raises(UserError, match=f"plan.{key}=0: expected more than 0"):
        cost_plan.plan(compose(["+model=bielik11b", *ON_16, f"plan.{key}=0"]))


def test_a_model_on_a_cpu_has_no_such_table():
    titles = [part.title for part in cost_plan.plan(compose(["+model=tiny_pl", "platform=cpu"])).tables]
    assert not [title for title in titles if "failures" in title]
