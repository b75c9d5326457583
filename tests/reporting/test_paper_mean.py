"""The mean over the paper's benchmarks: what it covers, what it refuses, and the paper's own table through the same code."""

import itertools
import json
import math
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from nemo_plugins.evaluation import run_outputs
from nemo_plugins.planning import report_plan
from nemo_plugins.reporting import paper_figures, paper_mean, results, run_report
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.prepare import compose

PAPER = paper_figures.load()["final"]
GUESSING = 0.25


def judged(benchmark: str, scale: float, **scores) -> dict:
    return {"benchmark": benchmark, "scale": scale, "source": "a judge", "scores": scores}


class MadeRun:
    """A run's folder, and files of results beside it."""

    def __init__(self, root: Path):
        self.root = root
        self.number = itertools.count()
        self.evaluate("laptop", {"teacher": 0.8, "grpo": 0.7}, ["probe"])

    def evaluate(self, suite: str, shares: dict[str, float], tasks: list[str], limit=None, **identity: str) -> None:
        """An evaluation whose every task has a score around the share of a model."""
        folder = self.root / "tiny_pl" / f"eval-{suite}"
        models = {}
        for model, share in shares.items():
            (folder / "results" / model).mkdir(parents=True)
            models[model] = {"identity": identity.get(model, f"b2-{model}"), "tasks": {}}
            for task in tasks:
                draws = np.random.default_rng(len(task)).normal(share, 0.01, 200)
                result = {"score": share, "resampled": draws.tolist()}
                (folder / "results" / model / f"{task}.json").write_text(json.dumps(result))
                models[model]["tasks"][task] = {"score": share, "baseline": GUESSING}
        summary = {
            "command": "python recipes/eval.py", "started": f"2026-01-01T00:00:{next(self.number):02}", "models": models,
            "suite": {"name": suite, "limit": limit}, "teacher": "teacher", "subject": "grpo", "inputs": {}, "outputs": {},
        }  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))

    def file(self, body, name: str = "") -> str:
        path = self.root / (name or f"{next(self.number)}.json")
        path.write_text(body if isinstance(body, str) else json.dumps(body))
        return str(path)

    def configured(self, *files: str):
        return compose(["+model=tiny_pl", f"run.root={self.root}", f"report.results=[{','.join(files)}]"])

    def measure(self, *files: str) -> paper_mean.PaperMean:
        stages = run_outputs.stages(self.root / "tiny_pl")
        return paper_mean.measure(self.configured().eval, stages, results.read_all(files))


@pytest.fixture
def run(tmp_path) -> MadeRun:
    return MadeRun(tmp_path)


def tasks_of(suite: str, pattern: str = "*") -> list[str]:
    return [name for name in compose(["+model=tiny_pl", f"eval={suite}"]).eval.tasks if fnmatch(name, pattern)]


def test_the_papers_own_table_comes_to_what_its_rows_come_to(run):
    table = [judged(row["benchmark"], row["scale"], teacher=row["teacher"], grpo=row["student"]) for row in PAPER]
    mean = run.measure(run.file(table))
    assert not mean.missing and list(mean.kept) == [row["benchmark"] for row in PAPER]
    rows = paper_figures.recompute()
    assert 100 * mean.mean == pytest.approx(rows.mean, abs=1e-9) and f"{100 * mean.mean:.2f}" == "89.93"
    assert "over all 8 of the paper's benchmarks: 89.93 % (no interval" in mean.words()
    assert mean.words().endswith(f"The paper prints {rows.printed:.1f} % of its own models.")


def test_part_of_the_benchmarks_is_not_held_against_the_papers_figure(run):
    mean = run.measure(run.file(judged("EQ-Bench", 100, teacher=80, grpo=60)), run.file(judged("CPTUB", 5, teacher=4, grpo=2)))
    assert mean.mean == pytest.approx((0.75 + 0.5) / 2)
    said = mean.words()
    assert "over 2 of 8" in said and "cannot be compared" in said and "90.1" not in said
    assert "BFCL (no result file)" in said and "INCLUDE (no result file, eval=paper not run)" in said


def test_the_interval_covers_the_truth_as_often_as_it_says(run):
    """Of files with standard errors, against draws of their scores."""
    draw, truth, held = np.random.default_rng(1), (0.75 + 0.6) / 2, 0
    for _ in range(400):
        kept = {}
        for name, share in (("a", 0.75), ("b", 0.6)):
            teacher, student = draw.normal(80, 2), draw.normal(80 * share, 2)
            file = results.ExternalBenchmark(
                name, name, "", {who: {"score": score, "stderr": 2.0} for who, score in (("t", teacher), ("s", student))}, 100
            )
            kept[name] = paper_mean._from_files([file], ("t", "s"))
        low, high = paper_mean.PaperMean(("t", "s"), kept, {}, 0.95, 90.1).interval
        held += low <= truth <= high
    assert 0.91 < held / 400 < 0.98


def test_suites_of_the_run_count_with_the_error_of_their_paired_resamples(run):
    belebele = tasks_of("paper", "belebele_*")
    run.evaluate("paper", {"teacher": 0.8, "grpo": 0.6}, belebele)
    run.evaluate("open_pl", {"teacher": 0.85, "grpo": 0.55}, tasks_of("open_pl"))
    mean = run.measure()
    assert list(mean.kept) == ["Open PL", "Medical", "Belebele"]
    assert mean.kept["Open PL"].ratio == pytest.approx((0.55 - GUESSING) / (0.85 - GUESSING))  # above guessing, as it is scored
    assert mean.kept["Medical"].ratio == pytest.approx(0.55 / 0.85) and mean.kept["Belebele"].student == pytest.approx(60)
    files = [run.root / "tiny_pl" / "eval-paper" / "results" / who / f"{belebele[0]}.json" for who in ("grpo", "teacher")]
    one = [np.array(json.loads(file.read_text())["resampled"]) for file in files]
    assert mean.kept["Belebele"].stderr == pytest.approx(np.std(one[0] / one[1], ddof=1))  # all tasks have the same draws
    assert mean.kept["Belebele"].stderr < 0.5 * 0.75 * math.hypot(*(np.std(side) / side.mean() for side in one))  # unpaired
    assert mean.interval[0] < mean.mean < mean.interval[1]
    assert math.isclose(sum(mean.interval) / 2, mean.mean)


def test_what_an_evaluation_has_only_in_part_does_not_count(run):
    run.evaluate("paper", {"teacher": 0.8, "grpo": 0.6}, tasks_of("paper", "belebele_*")[1:])
    run.evaluate("open_pl", {"teacher": 0.8, "grpo": 0.6}, tasks_of("open_pl"), limit=10)
    missing = run.measure().missing
    assert missing["Belebele"] == "eval-paper lacks 1 of 28 tasks of teacher"
    assert missing["Open PL"] == "eval-open_pl has only the first 10 items of each task"


def test_two_evaluations_of_other_weights_under_one_name_are_not_mixed(run):
    run.evaluate("paper", {"teacher": 0.8, "grpo": 0.6}, tasks_of("paper"))
    run.evaluate("open_pl", {"teacher": 0.8, "grpo": 0.6}, tasks_of("open_pl"), grpo="b2-later")
    mean = run.measure()
    assert "Open PL" in mean.kept
    assert mean.missing["INCLUDE"] == "eval-paper is of other weights of grpo than the last evaluation"


def test_a_file_of_this_runs_weights_counts_and_one_that_does_not_say_is_marked(run):
    both = {"teacher": {"score": 80, "weights": "b2-teacher"}, "grpo": {"score": 60, "weights": "b2-grpo"}}
    mean = run.measure(run.file(judged("BFCL", 100, **both), "bfcl.json"))
    assert mean.kept["BFCL"].source == "bfcl.json"
    mean = run.measure(run.file(judged("bfcl", 100, **(both | {"teacher": 80})), "b.json"))
    assert mean.kept["BFCL"].source == "b.json, weights not stated"


GOOD = {"teacher": 80, "grpo": 60}
TWICE = '{"benchmark": "BFCL", "scale": 100, "scores": {"grpo": 1, "grpo": 2}}'


@pytest.mark.parametrize(
    ("bodies", "says"),
    [
        ([judged("BFCL", 1, teacher=0.8, grpo=0.6)], "BFCL on a scale of 1\n.*100"),
        ([judged("BFCL", 100, teacher=80, grpo=160)], "score of grpo: 160 is beyond the scale of 100"),
        ([judged("BFCL", 0, **GOOD)], "scale 0: expected the best score"),
        ([judged("BFCL", 100, teacher=80, grpo="good")], "score of grpo: good is no number"),
        ([judged("BFCL", 100, teacher=80, grpo={"score": 60, "stderr": -1})], "stderr of grpo: -1"),
        ([judged("BFCL", 100, teacher=80, grpo={"score": 60, "items": "many"})], "items of grpo: many"),
        ([judged("BFCL", 100, teacher=80, grpo={"score": 60, "weights": 7})], "weights of grpo: 7: expected a fingerprint"),
        ([judged("BFCL", 100, teacher=80, grpo={"score": 60, "weights": "b2-other"})], "other weights than this run's grpo"),
        ([judged("BFCL", 100, **GOOD), judged("bfcl", 100, **GOOD)], "bfcl of teacher|BFCL of teacher a second time"),
        ([TWICE], "'grpo' is named twice"),
        (["[" * 100_000], "docs/evaluating.md"),
        ([judged("BFCL", 100)], "no model with a number"),
    ],
)
def test_a_file_that_cannot_count_is_refused_with_its_name(run, bodies, says):
    files = [run.file(body) for body in bodies]
    with pytest.raises(UserError, match=says) as refused:
        report_plan.plan(run.configured(*files))
    assert str(refused.value).startswith("report.results=")


def test_a_file_that_is_not_there_is_refused(run):
    with pytest.raises(UserError, match="report.results=nowhere.json: no such file"):
        report_plan.plan(run.configured("nowhere.json"))


def test_a_dry_run_says_what_the_mean_covers(run):
    file = run.file(judged("BFCL", 100, **GOOD), "bfcl.json")
    table = next(table for table in report_plan.plan(run.configured(file)).tables if table.title == "The paper's benchmarks")
    rows = dict(table.rows)
    assert rows["BFCL"] == "from bfcl.json, weights not stated" and rows["mean recovery"] == "over 1 of 8"
    assert rows["EQ-Bench"] == "missing: no result file" and len(rows) == 9


def test_a_benchmark_without_a_scale_is_shown_and_not_counted(run):
    old = {"benchmark": "EQ-Bench", "scores": {"teacher": 71.2, "grpo": 64.09}}
    mean = run.measure(run.file(old, "eq.json"))
    assert mean.missing["EQ-Bench"] == "eq.json gives no scale" and not run_report.mean_sections(mean, "report")


def test_each_figure_of_the_page_names_its_place_in_the_reports_summary(run):
    errors = {who: {"score": score, "stderr": 2} for who, score in GOOD.items()}
    mean = run.measure(run.file(judged("BFCL", 100, **errors)))
    [section] = run_report.mean_sections(mean, "report")
    block = json.loads(json.dumps({"paper_mean": mean.block()}))
    [row] = section.parts[1].rows
    shown = [cell for cell in row if hasattr(cell, "source")]
    assert [cell.text for cell in shown] == ["60.00", "80.00", "75.00", f"{100 * math.hypot(2, 1.5) / 80:.2f}"]
    for cell in shown:
        place = block
        for key in cell.source.removeprefix("report/summary.json#/").split("/"):
            place = place[key]
        assert isinstance(place, float | int)
