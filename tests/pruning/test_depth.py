"""Which layers stay under each criterion."""

from nemo_plugins.configs.schema import Criterion
from nemo_plugins.pruning.depth import kept_layers
from nemo_plugins.pruning.layer_removal import Removals, runs_of

SCORES = [0.9, 0.1, 0.3, 0.2, 0.8]
REMOVALS = Removals(
    1.0,
    {(0, 0): 9.0, (1, 1): 1.2, (2, 2): 0.9, (3, 3): 1.5, (4, 4): 3.0, (0, 1): 9.5, (1, 2): 1.9, (2, 3): 1.6, (3, 4): 4.0},
)


def kept(criterion, keep=3, seed=1):
    return kept_layers(criterion, 5, keep, SCORES, REMOVALS, seed)


def test_importance_drops_the_layers_that_change_least():
    assert kept(Criterion.importance) == [0, 2, 4]


def test_of_equal_scores_the_first_layer_stays_as_in_modelopt():
    assert kept_layers(Criterion.importance, 4, 2, [0.5, 0.5, 0.5, 0.5], None, 0) == [0, 1]


def test_loss_drops_the_layers_whose_removal_costs_least_even_where_it_gains():
    assert kept(Criterion.loss) == [0, 3, 4]


def test_loss_run_drops_the_neighbours_whose_removal_together_costs_least():
    assert kept(Criterion.loss_run) == [0, 1, 4]  # 2 and 3: not what each alone would say


def test_last_layers_and_random_are_baselines():
    assert kept(Criterion.last_layers) == [0, 1, 2]
    draws = {tuple(kept(Criterion.random, seed=seed)) for seed in range(30)}
    assert len(draws) > 5 and all(len(set(draw)) == 3 and list(draw) == sorted(draw) for draw in draws)
    assert kept(Criterion.random, seed=4) == kept(Criterion.random, seed=4)


def test_nothing_is_dropped_where_the_depth_stays():
    assert all(kept_layers(criterion, 5, 5, None, None, 0) == [0, 1, 2, 3, 4] for criterion in Criterion)


def test_runs_of_neighbours():
    assert runs_of(2, 4) == [(0, 1), (1, 2), (2, 3)]
    assert REMOVALS.of_length(2) == {(0, 1): 9.5, (1, 2): 1.9, (2, 3): 1.6, (3, 4): 4.0}
