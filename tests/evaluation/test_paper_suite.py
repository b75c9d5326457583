"""The suite of the paper's benchmarks: its tasks are those of the installed lm-eval, and FLORES is scored as sacrebleu does."""

import json
from fnmatch import fnmatch

import pytest
from sacrebleu.metrics import BLEU

from nemo_plugins.configs.schema import Origin
from nemo_plugins.planning import eval_tasks
from nemo_plugins.reporting import paper_figures
from nemo_plugins.runs.prepare import compose

SAID = ["Ala ma kota.", "", "Kot", "Wczoraj padał deszcz w Krakowie.", "To jest zdanie bez końca i bez sensu"]
WANTED = ["Ala ma kota.", "Pies ma Alę.", "Kot śpi.", "Wczoraj w Krakowie padał deszcz.", "To jest zdanie bez sensu."]


@pytest.fixture(scope="module")
def suite():
    return compose(["+model=tiny_pl", "eval=paper"]).eval


@pytest.fixture(scope="module")
def flores():
    from nemo_plugins.evaluation.tasks.flores import flores

    return flores


def metrics(config: dict) -> set[str]:
    """As lm-eval names them: of a task, or of a group that sums its tasks up."""
    rows = config.get("metric_list") or config["aggregate_metric_list"]
    return {f"{row['metric']},none" for row in rows}


def test_every_task_is_defined_and_has_the_metric_that_the_suite_reads(suite):
    from lm_eval.tasks._yaml_loader import load_yaml

    assert not eval_tasks.lacking(suite)
    for name, task in suite.tasks.items():
        folder = eval_tasks.folder(suite, task)
        assert task.metric in metrics(load_yaml(eval_tasks.file_of(folder, name), resolve_func=False)), name
        assert (task.baseline == 0.25) == (task.origin is Origin.upstream), name  # of four options


def test_the_papers_table_reads_tasks_that_the_suites_have():
    for row in paper_figures.load()["final"]:
        if "suite" in row:
            tasks = compose(["+model=tiny_pl", f"eval={row['suite']}"]).eval.tasks
            assert [name for name in tasks if fnmatch(name, row.get("tasks", "*"))], row
            assert row["student"] < row["teacher"] < row["scale"]


def test_belebele_is_in_as_many_languages_as_the_paper_has(suite):
    assert len([name for name in suite.tasks if name.startswith("belebele_")]) == 28


def test_bleu_of_sums_is_sacrebleus_of_texts_on_any_resample(flores):
    pairs = list(zip(SAID, WANTED, strict=True))
    for chosen in (pairs, pairs[:1], pairs[1:2], [*pairs[2:], *pairs[3:], pairs[0]]):
        added = [flores.sums({"target": wanted}, [f" {said} "])["bleu"] for said, wanted in chosen]
        texts = [list(side) for side in zip(*chosen, strict=True)]
        assert flores.bleu(added) == pytest.approx(BLEU().corpus_score(texts[0], [texts[1]]).score, abs=1e-9)


def test_two_languages_are_joined_by_the_ids_of_their_sentences(flores, tmp_path, monkeypatch):
    """A folder as the hub has the data set: a configuration a language."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    configs = []
    for code, order in (("pol_Latn", (1, 2, 3)), ("ces_Latn", (3, 1, 2)), ("deu_Latn", (1, 2, 4))):
        for split in ("dev", "devtest"):
            rows = [{"id": number, "sentence": f"{code} {split} {number}"} for number in order]
            (tmp_path / f"{code}-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files = [{"split": split, "path": f"{code}-{split}.jsonl"} for split in ("dev", "devtest")]
        configs.append({"config_name": code, "data_files": files})
    (tmp_path / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    made = flores.documents("pol_Latn", "ces_Latn", dataset=str(tmp_path), version=1.0)
    first = made["devtest"][0]
    assert (first["source"], first["target"]) == ("pol_Latn devtest 1", "ces_Latn devtest 1")
    assert (first["source_language"], first["target_language"]) == ("Polish", "Czech")
    assert [row["id"] for row in made["dev"]] == [1, 2, 3]
    with pytest.raises(ValueError, match="the dev sentences of pol_Latn and deu_Latn have different ids"):
        flores.documents("pol_Latn", "deu_Latn", dataset=str(tmp_path))
