"""Candidates of a search: names, the paper's table, the grid under a budget, shares of a job array."""

import itertools

import pytest

from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import candidates, search_plan
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose


def search(*overrides, model="tiny_pl"):
    return compose([f"+model={model}", *overrides])


def test_the_papers_table_is_its_ten_experiments():
    choice = candidates.choose(search("search.candidates=paper", model="bielik11b"))
    assert [one.name for one in choice.candidates] == [f"exp_{number:03}" for number in range(1, 11)]
    assert choice.candidates[9].student.parameters() == 7_477_727_232
    with pytest.raises(UserError, match="for bielik11b, not for tiny_pl"):
        candidates.choose(search("search.candidates=paper"))


def test_a_grid_is_what_brute_force_finds_under_the_budget():
    cfg = search("prune.budget.parameters=7e6", "search.slack=0.1", "search.limit=100")
    teacher = Architecture.from_config(cfg.model)
    points = [
        teacher.with_sizes(num_layers=layers, ffn_hidden_size=ffn)
        for layers, ffn in itertools.product(range(4, 9), range(512, 1025, 64))
    ]
    fit = [point for point in points if point.parameters() <= 7e6 and point != teacher]
    best = max(point.parameters() for point in fit)
    want = {(p.num_layers, p.ffn_hidden_size) for p in fit if p.parameters() >= 0.9 * best}
    choice = candidates.choose(cfg)
    assert {(one.student.num_layers, one.student.ffn_hidden_size) for one in choice.candidates} == want
    counts = [one.student.parameters() for one in choice.candidates]
    assert counts == sorted(counts, reverse=True)
    assert sum(choice.thrown_out.values()) + len(counts) == len(points) - 1


def test_without_a_budget_the_recommended_student_is_the_measure():
    names = [one.name for one in candidates.choose(search()).candidates]
    assert names[0] == "layers6-ffn768"


def test_a_model_without_a_recommended_student_is_searched_for_one_a_third_smaller():
    cfg = search("model.recommended.student={num_layers:null,ffn_hidden_size:null}")
    assert [one.name for one in candidates.choose(cfg).candidates][0] == "layers6-ffn768"


def test_only_and_limit():
    assert [one.name for one in candidates.choose(search("search.limit=2")).candidates] == ["layers6-ffn768", "layers5-ffn960"]
    one = candidates.choose(search("search.only=[layers5-ffn960]")).candidates
    assert [candidate.sizes(Architecture.from_config(search().model)) for candidate in one] == [
        {"num_layers": 5, "ffn_hidden_size": 960}
    ]
    with pytest.raises(UserError, match="there is no candidate layers9"):
        candidates.choose(search("search.only=[layers9]"))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("search.candidates=best", "expected one of: grid, paper"),
        ("search.limit=0", "search.limit=0"),
        ("search.slack=1", "search.slack=1"),
        ("search.part=2", "expected both"),
        ("search.distill_steps=-1", "search.distill_steps=-1"),
    ],
)
def test_a_wrong_search_names_its_key(override, says):
    with pytest.raises(UserError, match=says):
        search_plan.plan(search(override))


def test_the_parts_of_a_job_array_are_all_candidates_once(monkeypatch):
    every = candidates.choose(search()).candidates
    parts = [candidates.mine(search(f"search.part={part}", "search.parts=3"), every) for part in range(3)]
    assert sorted(one.name for part in parts for one in part) == sorted(one.name for one in every)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "11")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "10")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    assert candidates.mine(search(), every) == parts[1]
    assert candidates.stage(search()) == "search-part-1-of-3"
