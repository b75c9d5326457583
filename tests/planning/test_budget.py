"""Budgets: the student that they choose, what they refuse, and how long that takes."""

import pytest

from nemo_plugins.configs.schema import BudgetConfig, Count, Format, GridConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import budget, checks, decode, devices, formats
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose

TEACHER = Architecture(50, 4096, 14336, 32, 8, 128, 32128)
STUDENT = Architecture(40, 4096, 11264, 32, 8, 128, 32128)
TINY = Architecture(8, 256, 1024, 8, 4, 32, 4096)
FROZEN = ["hidden_size", "num_attention_heads"]


def test_the_papers_budget_gives_the_papers_student():
    assert budget.choose(TEACHER, BudgetConfig(parameters=7.35e9, count=Count.paper)) == STUDENT
    assert budget.choose(TEACHER, BudgetConfig(parameters=7.48e9)) == STUDENT


def test_the_derived_grid_goes_from_half_to_all():
    points = budget.grid(TEACHER, GridConfig(), FROZEN)
    assert {point.num_layers for point in points} == set(range(25, 51))
    assert {point.ffn_hidden_size for point in points} == set(range(7168, 14337, 512))
    assert {(point.hidden_size, point.num_attention_heads) for point in points} == {(4096, 32)}
    assert TEACHER not in points and len(points) == 26 * 15 - 1
    free = budget.grid(TEACHER, GridConfig(), ["num_layers", "ffn_hidden_size"])
    assert {point.hidden_size for point in free} == set(range(2048, 4097, 256))
    assert {point.num_attention_heads for point in free} == {16, 24, 32}


def test_small_models_have_finer_steps_and_odd_ones_keep_their_own_sizes():
    points = budget.grid(TINY, GridConfig(), [])
    assert {point.hidden_size for point in points} == {128, 192, 256}
    assert {point.ffn_hidden_size for point in points} == set(range(512, 1025, 64))
    assert {point.num_attention_heads for point in points} == {4, 8}
    odd = Architecture(7, 200, 11008, 6, 3, 32, 4096)
    points = budget.grid(odd, GridConfig(), [])
    assert {point.ffn_hidden_size for point in points} == {*range(5632, 11008, 512), 11008}
    assert {point.hidden_size for point in points} == {128, 192, 200}
    assert {point.num_layers for point in points} == {4, 5, 6, 7}


def test_every_point_is_one_that_prune_accepts():
    cfg = compose(["+model=tiny_pl"])
    teacher = Architecture.from_config(cfg.model)
    for point in budget.grid(teacher, GridConfig(), []):
        for key in budget.SIZES:
            value = getattr(point, key)
            setattr(cfg.prune, key, None if value == getattr(teacher, key) else value)
        assert checks.student(cfg) == point


def test_a_list_of_its_own_replaces_a_sizes_grid():
    points = budget.grid(TEACHER, GridConfig(num_layers=[40, 50], ffn_hidden_size=[11264, 11264]), FROZEN)
    assert [(point.num_layers, point.ffn_hidden_size) for point in points] == [(40, 11264), (50, 11264)]


@pytest.mark.parametrize(
    ("sizes", "frozen", "says"),
    [
        (
            {"ffn_hidden_size": [700]},
            FROZEN,
            "prune.budget.grid.ffn_hidden_size: 700 is not a multiple of 64\nexpected e.g. 640",
        ),
        ({"hidden_size": [100]}, [], "prune.budget.grid.hidden_size: 100 is not a multiple of 64"),
        ({"num_layers": [51]}, FROZEN, "prune.budget.grid.num_layers: 51 is more than the teacher's 50"),
        ({"num_layers": [0]}, FROZEN, "prune.budget.grid.num_layers: 0: expected positive"),
        ({"num_layers": []}, FROZEN, "prune.budget.grid.num_layers=\\[\\] lists no size"),
        ({"num_attention_heads": [12]}, [], "prune.budget.grid.num_attention_heads: 12 do not share out to 8"),
        ({"hidden_size": [3072]}, FROZEN, "prune.budget.grid.hidden_size is given, but prune.budget.frozen names hidden_size"),
        ({}, ["layers"], "prune.budget.frozen: layers is no size"),
        ({}, ["num_query_groups"], "prune.budget.frozen: num_query_groups is no size"),
        ({}, list(budget.SIZES), "prune.budget.frozen names every size"),
        ({"hidden_size": list(range(64, 4097, 64)), "num_layers": list(range(1, 51))}, [], "more than 50,000"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(sizes, frozen, says):
    with pytest.raises(UserError, match=says):
        budget.grid(TEACHER, GridConfig(**sizes), frozen)


def test_all_that_is_given_must_hold():
    asked = BudgetConfig(
        parameters=9e9, weights_gb=7.0, device="rtx4090", decode_ms=8.0, format=Format.q6_k, context=4096, frozen=[]
    )
    points = budget.grid(TEACHER, GridConfig(num_attention_heads=[32]), [])
    fitting = budget.admissible(points, TEACHER, asked)
    device = devices.load("rtx4090", "device")

    def holds(point):
        weights = formats.weight_bytes(point, Format.q6_k)
        return (
            point.parameters() <= 9e9
            and weights <= 7e9
            and weights + point.kv_cache_bytes(4096, 2) <= device.usable_bytes
            and decode.milliseconds(point, device, Format.q6_k, 4096) <= 8.0
        )

    assert 0 < len(fitting) < len(points)
    assert fitting == [point for point in points if holds(point)]


def test_the_chosen_one_is_the_most_balanced_of_the_largest():
    asked = BudgetConfig(weights_gb=12.0, frozen=[])
    chosen = budget.choose(TEACHER, asked)
    fitting = budget.admissible(budget.grid(TEACHER, asked.grid, []), TEACHER, asked)
    most = max(point.parameters() for point in fitting)

    def spread(point):
        shares = [getattr(point, key) / getattr(TEACHER, key) for key in budget.SIZES]
        return max(shares) - min(shares)

    assert chosen.parameters() >= 0.99 * most
    assert spread(chosen) == min(spread(point) for point in fitting if point.parameters() >= 0.99 * most)


def test_with_one_free_size_the_largest_that_fits():
    asked = BudgetConfig(parameters=8e9, frozen=["hidden_size", "num_attention_heads", "ffn_hidden_size"])
    assert budget.choose(TEACHER, asked).num_layers == max(
        layers for layers in range(25, 50) if TEACHER.with_sizes(num_layers=layers).parameters() <= 8e9
    )


def test_a_budget_that_nothing_meets_names_the_nearest_two():
    with pytest.raises(UserError) as error:
        budget.choose(TEACHER, BudgetConfig(weights_gb=1.0, format=Format.q4_k_m))
    text = str(error.value)
    smallest = TEACHER.with_sizes(num_layers=25, ffn_hidden_size=7168)
    assert "prune.budget.weights_gb=1: no student" in text and "1.00 GB" in text
    assert (
        f"25 layers, FFN 7168, hidden 4096, 32 heads: {budget.gigabytes(formats.weight_bytes(smallest, Format.q4_k_m))}" in text
    )
    assert text.count(" layers, FFN ") == 2 and "the teacher has 6.72 GB" in text


def test_a_budget_that_the_teacher_meets_says_so():
    with pytest.raises(UserError, match="prune.budget.parameters=2e\\+10: the teacher itself fits, nothing need be pruned"):
        budget.choose(TEACHER, BudgetConfig(parameters=2e10))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"parameters": 0}, "prune.budget.parameters=0: expected a positive"),
        ({"weights_gb": -1}, "prune.budget.weights_gb=-1: expected a positive"),
        ({"parameters": float("nan")}, "prune.budget.parameters=nan: expected a positive"),
        ({"device": "rtx4090", "context": 0}, "prune.budget.context=0"),
        ({"decode_ms": 10}, "prune.budget.decode_ms=10 without a device\n.*prune.budget.device"),
        ({"device": "rtx"}, "prune.budget.device=rtx: no such device\nexpected one of: .*h100"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(asked, says):
    with pytest.raises(UserError, match=says):
        budget.choose(TEACHER, BudgetConfig(**asked))


def test_nothing_given_is_no_budget():
    assert not budget.is_given(BudgetConfig(format=Format.fp8, context=1))
    assert budget.is_given(BudgetConfig(device="rtx4090")) and budget.is_given(BudgetConfig(decode_ms=1))
    assert not budget.limits(BudgetConfig())


def test_prune_takes_only_the_sizes_that_a_budget_changes():
    cfg = compose(["+model=bielik11b", "prune.budget.parameters=7.35e9", "prune.budget.count=paper"])
    assert (cfg.prune.num_layers, cfg.prune.ffn_hidden_size, cfg.prune.hidden_size) == (40, 11264, None)
    assert checks.student(cfg).parameters() == STUDENT.parameters()
    layers = "prune.budget.frozen=[hidden_size,num_attention_heads,ffn_hidden_size]"
    cfg = compose(["+model=bielik11b", "prune.budget.parameters=10e9", layers])
    assert cfg.prune.ffn_hidden_size is None  # not the recommended student's either


@pytest.mark.parametrize("size", ["prune.num_layers=40", "prune.drop_layers=[3]", "experiment=exp_010"])
def test_a_budget_and_sizes_are_refused_naming_both(size):
    key = "prune.drop_layers" if "drop" in size else "prune.num_layers"
    with pytest.raises(UserError, match=f"prune.budget.weights_gb and {key} are both given"):
        compose(["+model=bielik11b", "prune.budget.weights_gb=15", size])


def test_the_plan_of_a_pruning_shows_the_budget():
    from nemo_plugins.planning import prune_plan

    overrides = ["+model=bielik11b", "prune.budget.device=rtx4090", "prune.budget.context=40000"]
    made = prune_plan.plan(compose([*overrides, "prune.budget.parameters=8e9"]))
    (table,) = (table for table in made.tables if table.title == "Budget")
    assert [row[1] for row in table.rows] == ["8,000,000,000", "23.19 GB"]
    assert "11,168,796,672" in table.rows[0]
    assert any("prune.budget.context=40000" in warning for warning in made.warnings)
    assert "Budget" not in [table.title for table in prune_plan.plan(compose(overrides[:1])).tables]
