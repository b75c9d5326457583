"""The search's report: front, ranking and rank correlation against independent ones, and every candidate in the tables."""

import csv
import re

import numpy as np
import pytest
from scipy import stats

from nemo_plugins.reporting import search_plots, search_report
from nemo_plugins.reporting.search_report import Row

TEACHER = (1100, 1.8)


def row(name, parameters, loss, distilled=None, error=None, **sizes):
    return Row(name, sizes, parameters, parameters - 10, loss, distilled, error)


ROWS = [
    row("wide", 900, 2.5, 2.1, num_layers=4),
    row("deep", 800, 3.0, 2.2, ffn_hidden_size=96),
    row("odd", 850, 3.5, num_layers=3, ffn_hidden_size=64),
    row("small", 500, 4.0, 2.6, num_layers=2),
    row("broken [red]", 300, None, None, "\nRuntimeError: [/red] <b>shape</b>\nat line 2", hidden_size=48),
    row("diverged", 400, float("nan")),
]


def test_front_equals_brute_force():
    draw = np.random.default_rng(0)
    for _ in range(50):
        sizes, losses = draw.integers(1, 8, 12), draw.integers(1, 8, 12) / 2  # few values: many ties
        rows = [row(str(place), int(sizes[place]), float(losses[place])) for place in range(12)]
        wanted = set()
        for a in range(12):
            smaller_or_equal = [b for b in range(12) if sizes[b] <= sizes[a]]
            lowest = min(losses[b] for b in smaller_or_equal)
            first = min(sizes[b] for b in range(12) if losses[b] == lowest)
            if losses[a] == lowest and sizes[a] == first:
                wanted.add(str(a))
        assert search_report.front(rows) == wanted


def test_failed_ones_are_on_no_front_and_last():
    assert search_report.front(ROWS) == {"wide", "deep", "small"}
    order = [found.name for found in search_report.ranked(ROWS)]
    assert order == ["wide", "deep", "small", "odd", "broken [red]", "diverged"]


def test_equal_losses_rank_the_smaller_first():
    assert [found.name for found in search_report.ranked([row("a", 9, 2.0), row("b", 8, 2.0)])] == ["b", "a"]


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_is_spearmans_with_ties(seed):
    before, after = np.random.default_rng(seed).integers(0, 5, (2, 9)).astype(float)
    rows = [row(str(place), place + 1, *pair) for place, pair in enumerate(zip(before, after, strict=True))]
    count, found = search_report.rank_correlation([*rows, row("not distilled", 3, 1.0)])
    assert count == 9 and found == pytest.approx(stats.spearmanr(before, after).statistic)


def test_rank_correlation_needs_three_that_differ():
    assert search_report.rank_correlation(ROWS[:2]) == (2, None)
    assert search_report.rank_correlation([row(name, 1, 2.0, float(place)) for place, name in enumerate("abc")]) == (3, None)
    assert search_report.rank_correlation(ROWS) == (3, pytest.approx(1.0))


def test_write_has_every_candidate_with_its_numbers(tmp_path):
    outputs = search_report.write(tmp_path / "search", "tiny search", ROWS, TEACHER, ["Six candidates."])
    html = outputs["report"].read_text()
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", line) for line in re.findall(r"<tr>(.*?)</tr>", html)]
    found = {line[1]: line for line in cells if line}
    assert found["wide"] == ["1", "wide", "4", "–", "–", "900", "890", "2.5000", "2.1000", "Pareto front"]
    assert found["odd"][-4:] == ["840", "3.5000", "–", ""]
    assert found["broken [red]"][0] == "–"
    assert found["broken [red]"][-1] == "failed: RuntimeError: [/red] &lt;b&gt;shape&lt;/b&gt;" and "line 2" not in html
    assert found["teacher"][-3] == "1.8000" and "Six candidates." in html and html.count("<img ") == 2
    read = {line["name"]: line for line in csv.DictReader(outputs["candidates"].open())}
    assert len(read) == len(ROWS) and float(read["small"]["distilled"]) == 2.6 and read["small"]["front"] == "1"
    assert read["broken [red]"]["loss"] == "" and read["broken [red]"]["error"] == ROWS[4].error
    assert all(outputs[name].stat().st_size > 5000 for name in ("pareto", "ranks"))


def test_write_without_distillation_or_without_any_loss(tmp_path):
    outputs = search_report.write(tmp_path, "t", [ROWS[2], ROWS[4]], TEACHER, [])
    assert (
        set(outputs) == {"pareto", "report", "candidates"} and "0 distilled, three are needed" in outputs["report"].read_text()
    )
    assert set(search_report.write(tmp_path, "t", ROWS[4:], TEACHER, [])) == {"report", "candidates"}
    assert set(search_report.write(tmp_path, "t", [], TEACHER, [])) == {"report", "candidates"}


def test_show_prints_ranks_notes_and_how_far_to_trust(capsys):
    search_report.show(ROWS, TEACHER)
    said = capsys.readouterr().out
    assert all(found.name in said for found in ROWS) and "failed: RuntimeError: [/red] <b>shape</b>" in said
    assert "rank correlation (Spearman) of 1.00: it can be trusted" in said and "by chance" in said
    reversed_after = [row(str(place), 9, place + 1.0, 9.0 - place) for place in range(6)]
    assert "do not choose by it" in search_report.trust(reversed_after)


def test_pictures_follow_their_numbers(tmp_path):
    def draw(distilled, front, names=("a$b$", "b", "c")):
        return search_plots.pareto(
            tmp_path / "p.png", [7, 8, 9], [3.0, 2.9, 2.5], names, front, {"b"}, (11, 2.0), distilled
        ).read_bytes()

    assert len({draw(None, {"a$b$"}), draw({"b": 2.2}, {"a$b$"}), draw({"b": 2.2}, {"b"})}) == 3
    before = {"a": 1.0, "b": 2.0, "c": 3.0}
    pictures = [search_plots.ranks(tmp_path / "r.png", before, {"a": x, "b": 1.5, "c": 2.0}, 0.5).read_bytes() for x in (1, 3)]
    assert pictures[0] != pictures[1] and len(pictures[0]) > 5000
