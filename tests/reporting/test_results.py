"""Result files of judges, of tool calling and of lm-eval's command line are shown as they are, or refused with a reason."""

import json

import pytest

from nemo_plugins.reporting import results, run_report
from nemo_plugins.reporting.page import PageTable, Section, Sourced, page
from nemo_plugins.runs.errors import UserError


@pytest.fixture
def file(tmp_path):
    def write(name: str, content) -> object:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_a_table_of_tool_calling(file):
    text = "Rank,Overall Acc,Model,Latency,Note\n1,79.28%,teacher,1.5,N/A\n2,73.18%,student,,fast\n"
    [made] = results.read(file("data_overall.csv", text), "report.results")
    assert made.scores["student"] == {"Rank": 2, "Overall Acc": 73.18}
    assert made.scores["teacher"]["Latency"] == 1.5 and made.benchmark == "data_overall"


def test_a_judges_scores_one_or_several(file):
    body = [
        {"benchmark": "EQ-Bench", "source": "judge X", "scores": {"teacher": 71.2, "student": "64.09"}},
        {"benchmark": "MT-Bench", "scores": {"student": {"turn 1": 8, "turn 2": 7.5, "note": "ok"}}},
    ]
    first, second = results.read(file("judged.json", body), "report.results")
    assert first.scores == {"teacher": {"score": 71.2}, "student": {"score": 64.09}} and first.source == "judge X"
    assert second.scores == {"student": {"turn 1": 8.0, "turn 2": 7.5}}


def test_lm_evals_own_file(file):
    body = {"results": {"arc": {"alias": "arc", "acc,none": 0.5, "acc_stderr,none": 0.1}}, "model_name": "m"}
    [made] = results.read(file("results_x.json", body), "report.results")
    assert made.scores == {"m": {"arc acc": 0.5}}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "name2,score\nx,1\n", "no column `model`"),
        ("a.csv", "model,score\nx,good\n", "no model with a number"),
        ("a.json", "{", "Expecting"),
        ("a.json", '{"scores": {"x": 1}}', "benchmark"),
        ("a.json", '{"benchmark": "b", "scores": [1]}', "items"),
    ],
)
def test_another_file_is_refused_with_what_was_expected(file, name, content, says):
    with pytest.raises(UserError, match=says) as refused:
        results.read(file(name, content), "report.results=a")
    assert "docs/evaluating.md" in str(refused.value)


def test_they_are_shown_as_measured_elsewhere(file, tmp_path):
    read = results.read(file("j.json", {"benchmark": "EQ <b>", "scores": {"teacher": 71.2}}), "report.results")
    text = page(tmp_path / "r.html", "t", "l", run_report.result_sections(read)).read_text()
    assert "EQ &lt;b&gt; (measured elsewhere)" in text and "71.2" in text and "not recomputed" in text


def test_a_figure_carries_where_it_is_written_and_counts_as_a_number(tmp_path):
    table = PageTable(
        ["model", "average"], [["a", Sourced("12.30", 'eval/summary.json#/a"b')], ["b", Sourced("4.2 to 14.3", "x#/y")]]
    )
    text = page(tmp_path / "r.html", "t", "l", [Section("s", [table])]).read_text()
    assert '<td class="n" data-source="eval/summary.json#/a&quot;b" title="eval/summary.json#/a&quot;b">12.30</td>' in text
    assert '<td class="n" data-source="x#/y" title="x#/y">4.2 to 14.3</td>' in text
