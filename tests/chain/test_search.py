"""The search by its command line: its losses are those of real prunings, a failure loses nothing, nothing is done twice."""

import json

import pytest
import torch
from laptop import MEASURED, ok
from safetensors.torch import load_file

pytestmark = pytest.mark.nemo

BOTH = ("layers6-ffn768", "layers7-ffn704-heads4")
SEARCH = (*MEASURED, f"search.only=[{','.join(BOTH)}]", "prune.budget.frozen=[hidden_size]", "search.keep=1")


@pytest.fixture(scope="module")
def searched(laptop, measured_prune):
    """A search whose second candidate could not be written at first, then went on to a short distillation of the best."""
    blocked = laptop.run / "search-losses" / "candidates" / f"{BOTH[1]}.json"
    blocked.mkdir(parents=True)
    first = laptop.recipe("search", *SEARCH, "search.distill_steps=2")
    blocked.rmdir()
    kept = (laptop.run / "search-losses" / "candidates" / f"{BOTH[0]}.json").stat().st_mtime_ns
    second = ok(laptop.recipe("search", *SEARCH, "search.distill_steps=2"))
    return first, second, kept


def test_a_candidate_that_fails_loses_nothing_and_is_tried_again(laptop, searched):
    first, second, kept = searched
    assert first.returncode == 1 and f"{BOTH[1]} failed" in first.stderr and "tries them again" in first.stderr
    assert f"{BOTH[0]}: distill" in first.stdout  # the other one went on
    assert (laptop.run / "search-losses" / "candidates" / f"{BOTH[0]}.json").stat().st_mtime_ns == kept
    assert f"{BOTH[0]}: held-out" not in second.stdout and f"{BOTH[1]}: held-out" in second.stdout


def test_its_losses_are_those_that_pruning_reports(laptop, searched):
    summary = laptop.summary("search")
    for name, run in zip(BOTH, ("measured", "heads"), strict=True):
        if not (laptop.run / run / "prune" / "summary.json").exists():
            continue
        metrics = laptop.summary(f"{run}/prune")["metrics"]
        assert summary["candidates"][name]["loss"] == pytest.approx(metrics["loss_after"], abs=2e-5)
        assert summary["metrics"]["loss_teacher"] == pytest.approx(metrics["loss_before"], abs=1e-6)
    assert laptop.summary("search-losses")["measured_here"] is False  # the prunings before it had measured


def test_the_best_is_distilled_in_a_run_of_its_own_and_ranked_first(laptop, searched):
    summary = laptop.summary("search")
    best = min(BOTH, key=lambda name: summary["candidates"][name]["loss"])
    assert summary["ranking"][0] == best
    distilled = laptop.summary(f"{best}/distill")
    assert summary["candidates"][best]["distilled"] == distilled["metrics"]["val_loss"]
    assert json.loads((laptop.run / best / "prune" / "summary.json").read_text())["calibration"]["measured_here"] is False
    for file in ("report.html", "candidates.csv", "plots/pareto.png"):
        assert (laptop.run / "search" / file).stat().st_size > 100
    assert best in (laptop.run / "search" / "candidates.csv").read_text()


def test_a_part_takes_what_another_search_of_the_run_has_measured(laptop, searched):
    done = ok(laptop.recipe("search", *SEARCH, "search.part=1", "search.parts=2"))
    assert "held-out loss 3" not in done.stdout.split("rank")[0]
    assert laptop.summary("search-part-1-of-2")["candidates"].keys() == {*BOTH}


def test_what_ran_before_the_calibration_does_not_count(laptop, measured_prune, tmp_path):
    """A search measures its teacher's held-out loss first; its scores are those of a pruning all the same."""
    teacher = f"teacher.path={laptop.run / 'convert-import' / 'checkpoint'}"
    ok(laptop.recipe("search", *SEARCH, teacher, f"run.root={tmp_path}", "run.name=alone"))
    [own] = (tmp_path / ".scores").glob("*.safetensors")
    one, other = load_file(own), load_file(measured_prune / "scores.safetensors")
    assert set(one) == set(other)
    assert all(torch.allclose(one[name], other[name], rtol=1e-5, atol=1e-9) for name in one)
