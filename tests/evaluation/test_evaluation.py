"""Evaluations of the bundled model: lm-eval's command line says the same; what cannot be run costs no other result."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.evaluation import cache, harness
from nemo_plugins.planning import eval_plan, eval_tasks
from nemo_plugins.runs.errors import Failed, UserError
from nemo_plugins.runs.folder import Run
from nemo_plugins.runs.prepare import compose

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

LIMIT = 6
TINY = REPOSITORY / "assets" / "tiny_pl"
FEW = "eval.only=[probe_pl_capitals_mc,probe_pl_capitals_gen]"
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


class Evaluations:
    """Evaluations in one run root, in this process: lm-eval takes long to import."""

    def __init__(self, root: Path):
        self.root = root

    def configured(self, *overrides: str):
        given = ["+model=tiny_pl", f"run.root={self.root}", f"eval.limit={LIMIT}", "eval.resamples=100", "platform=cpu"]
        return compose([*given, *overrides])

    def __call__(self, *overrides: str, stage: str = "eval") -> dict:
        from nemo_plugins.evaluation import run

        cfg = self.configured(*overrides)
        made = eval_plan.plan(cfg)
        if made.missing:
            raise UserError(*(missing.text for missing in made.missing))
        folder = Run(cfg, "eval", stage, ("model", "eval"))
        folder.begin()
        try:
            run.run(cfg, folder)
        finally:
            folder.close()
        return folder.summary


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory) -> Evaluations:
    return Evaluations(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def laptop(evaluate) -> dict:
    return evaluate()


@pytest.fixture
def tasks(tmp_path) -> Path:
    """A folder of three tasks: two have their data, one of them with its groups in the older way; the third's are not there."""
    rows = [{"question": f"{n} + 1 =", "options": [str(n + 1), "7"], "answer": 0} for n in range(4)]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, file in (("here", "rows.jsonl"), ("older", "rows.jsonl"), ("without_data", "nowhere.jsonl")):
        (tmp_path / "tasks" / f"{name}.yaml").write_text(TASK.format(name=name, file=tmp_path / file))
    (tmp_path / "tasks" / "older.yaml").write_text("group:\n  - some" + (tmp_path / "tasks" / "older.yaml").read_text())
    return tmp_path / "tasks"


def own(*names: str) -> str:
    of = "metric: 'acc,none', baseline: 0.5, origin: task_path"
    return f"+eval.tasks={{{', '.join(f'{name}: {{{of}}}' for name in names)}}}"


def test_scores_are_those_of_lm_evals_command_line_to_the_last_digit(laptop, tmp_path, monkeypatch):
    """The same tasks all at once through `lm_eval run`, with its own search for them."""
    from lm_eval.__main__ import cli_evaluate

    arguments = [
        "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={TINY},dtype=float32", "--device", "cpu",
        "--tasks", ",".join(laptop["tasks"]), "--include_path", str(REPOSITORY / "nemo_plugins" / "evaluation" / "tasks"),
        "--batch_size", "64", "--limit", str(LIMIT), "--apply_chat_template", "--output_path", str(tmp_path),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.chdir(tmp_path)
    cli_evaluate()
    said = json.loads(next(tmp_path.rglob("results_*.json")).read_text())["results"]
    assert len(said) == len(laptop["tasks"]) == 11
    for name, task in laptop["tasks"].items():
        metric, _, which = task["metric"].partition(",")
        error = said[name][f"{metric}_stderr,{which}"]
        assert task["score"] == said[name][task["metric"]], name
        assert task["stderr"] == (None if error == "N/A" else error), name


def test_a_summary_has_the_names_that_others_read(laptop, evaluate):
    for block in laptop["tasks"].values():
        assert {"score", "stderr", "baseline", "normalised"} <= block.keys()
        if block["baseline"] is not None:
            assert block["normalised"] == pytest.approx((block["score"] - block["baseline"]) / (1 - block["baseline"]))
    assert laptop["subject"] == "teacher" and laptop["models"]["teacher"]["parameters"] == 9_965_824
    folder = evaluate.root / "tiny_pl" / "eval"
    samples = cache.read_samples(folder / "samples" / "teacher" / "probe_pl_capitals_gen.jsonl.gz")
    assert len(samples) == LIMIT and all("<|im_start|>assistant" in sample["arguments"][0][0] for sample in samples)
    shown = [sample["exact_match"] for sample in samples]
    assert sum(shown) / LIMIT == laptop["tasks"]["probe_pl_capitals_gen"]["score"]


def test_what_is_kept_is_not_run_again_and_what_is_damaged_is(laptop, evaluate, capfd):
    kept = sorted((evaluate.root / cache.FOLDER).rglob("probe_pl_capitals_*.json"))
    cut, whole = kept
    samples = cache.samples_of(cut)
    samples.write_bytes(samples.read_bytes()[:-7])
    before = {file: file.stat().st_mtime_ns for file in kept}
    made = evaluate(FEW, stage="again")
    assert {task: block["score"] for task, block in made["tasks"].items()} == {
        task: laptop["tasks"][task]["score"] for task in made["tasks"]
    }
    assert whole.stat().st_mtime_ns == before[whole] and cut.stat().st_mtime_ns != before[cut]
    assert f"{samples} is not what was written" in capfd.readouterr().err
    cache.samples_of(cut).unlink()
    whole.write_text(whole.read_text()[:100])
    with pytest.raises(cache.Damaged):
        cache.load(whole)
    evaluate(FEW, stage="once-more")
    assert cache.load(whole) and cache.load(cut)


def test_a_task_without_data_keeps_the_others_results(evaluate, tasks):
    names = ("here", "older", "without_data")
    arguments = (own(*names), "eval.suite=mine", f"eval.only=[{','.join(names)}]", f"eval.task_path={tasks}")
    with pytest.raises(Failed) as stopped:
        evaluate(*arguments, stage="mine")
    assert "without_data: " in str(stopped.value) and "2 results are kept" in str(stopped.value)
    assert (evaluate.root / "tiny_pl" / "mine" / "results" / "teacher" / "here.json").is_file()
    assert not (evaluate.root / "tiny_pl" / "mine" / "summary.json").exists()
    made = evaluate(*arguments, "eval.missing=skip", stage="skipped")
    assert list(made["tasks"]) == ["here", "older"] and list(made["not_run"]) == ["without_data"]
    assert made["tasks"]["here"]["score"] == made["tasks"]["older"]["score"]


def test_a_task_that_is_nowhere_is_named_before_anything_runs(evaluate, tasks):
    arguments = (own("here", "nowhere"), "eval.suite=mine", "eval.only=[here,nowhere]", f"eval.task_path={tasks}")
    with pytest.raises(UserError, match=r"1 of 2 tasks are not here\n  nowhere: no file of .* defines it"):
        evaluate(*arguments, stage="absent")
    made = evaluate(*arguments, "eval.missing=skip", stage="absent")
    assert list(made["tasks"]) == ["here"] and "nowhere" in made["not_run"]


def test_the_polish_suite_says_how_to_get_its_tasks(evaluate):
    with pytest.raises(UserError, match=r"24 of 24 tasks are not here[\s\S]*git clone https://[\s\S]*eval.missing=skip"):
        evaluate("eval=open_pl", f"+eval.models={{a: {TINY}}}", "eval.chat_template=false")


@pytest.mark.parametrize(("suite", "language", "warned"), [("laptop", "cs", 1), ("heldout", "cs", 0), ("laptop", "pl", 0)])
def test_a_suite_of_another_language_is_named(evaluate, suite, language, warned):
    planned = eval_plan.plan(evaluate.configured(f"eval={suite}", f"language={language}"))
    says = "is no suite of language=cs: expected one of english, heldout"
    assert sum(says in one for one in planned.warnings) == warned


def test_upstreams_tasks_are_found_where_the_suite_says(evaluate):
    made = eval_plan.plan(evaluate.configured("eval=english"))
    assert not [missing for missing in made.missing if missing.kind == "tasks"]


def test_a_model_without_a_chat_template_is_named_and_costs_no_other_result(evaluate, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(TINY, plain)
    (plain / "chat_template.jinja").unlink()
    described = json.loads((plain / "tokenizer_config.json").read_text())
    described.pop("chat_template", None)
    (plain / "tokenizer_config.json").write_text(json.dumps(described))
    models = f"+eval.models={{teacher: {TINY}, plain: {plain}}}"
    with pytest.raises(UserError, match=r"eval.models.plain: .* has no chat template"):
        evaluate(models, FEW, stage="template")
    made = evaluate(models, FEW, "eval.missing=skip", stage="template")
    assert list(made["models"]) == ["teacher"] and "no chat template" in made["not_run"]["plain"]


def test_a_model_that_does_not_load_takes_no_others_average(evaluate, tmp_path):
    broken = shutil.copytree(TINY, tmp_path / "broken")
    for file in ("tokenizer.json", "tokenizer.model"):
        (broken / file).write_text("no tokenizer")
    made = evaluate(f"+eval.models={{teacher: {TINY}, broken: {broken}}}", FEW, "eval.missing=skip", stage="broken")
    assert list(made["models"]) == ["teacher"] == [made["subject"]] and "average" in made["models"]["teacher"]
    assert list(made["not_run"]) == ["broken: probe_pl_capitals_mc", "broken: probe_pl_capitals_gen"]


def test_scores_of_one_servers_model_are_not_anothers(evaluate):
    def settings(*server: str) -> dict:
        cfg = evaluate.configured(*server, "eval.only=[probe_pl_capitals_mc]")
        ((name, task),) = eval_tasks.chosen(cfg.eval).items()
        return harness.load(cfg, name, task).settings

    at = ("eval.backend=endpoint", "eval.endpoint.url=http://a/v1", "eval.endpoint.model=one")
    others = [settings(*at, "eval.endpoint.url=http://b/v1"), settings(*at, "eval.endpoint.model=two"), settings()]
    assert settings(*at) == settings(*at, "eval.endpoint.requests=2") not in others


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("eval.limit=0", "eval.limit=0: expected at least 1"),
        ("eval.only=[capitals]", "capitals not in eval=laptop"),
        ("eval.confidence=95", "expected a number between 0 and 1"),
        ("eval.backend=endpoint", "eval.endpoint.url is not given"),
        ("eval.tasks.probe_pl_capitals_mc.metric=acc", "expected lm-eval's metric and filter"),
        ("eval.heldout_text=[nowhere.jsonl]", "no file nowhere.jsonl"),
        ("+eval.models={a: nowhere}", "no folder nowhere"),
    ],
)
def test_a_mistake_is_named_by_its_key(evaluate, override, says):
    with pytest.raises(UserError, match=says):
        evaluate(override)


def test_the_share_of_a_tasks_requests_that_is_answered_is_reported_while_it_runs(evaluate, monkeypatch):
    from nemo_plugins.evaluation import run

    said, advance = [], run.Progress.advance

    def look(progress, count=1):
        said.append((progress.within, count))
        advance(progress, count)
        said.append(progress.line())

    monkeypatch.setattr(run.Progress, "advance", look)
    monkeypatch.setattr(run.cache, "load", lambda file: None)
    evaluate(FEW, stage="watched")
    assert all(within == count == LIMIT for within, count in said[::2]), said
    assert "teacher: probe_pl_capitals" in said[1] and f"{LIMIT} of {2 * LIMIT} items" in said[1] and "left" in said[1]
