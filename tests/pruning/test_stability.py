"""Whether the samples were enough is answered by disjoint sets of equal size, n up to half of all samples."""

from dataclasses import replace

import pytest
import torch

from nemo_plugins.models.architecture import Architecture
from nemo_plugins.pruning import score_file, stability
from nemo_plugins.pruning.scores import WIDTH, Scores

TEACHER = Architecture(
    num_layers=6, hidden_size=64, ffn_hidden_size=128, num_attention_heads=8, num_query_groups=4, head_dim=8, vocab_size=512
)
STUDENT = TEACHER.with_sizes(num_layers=4, ffn_hidden_size=96)
SIZES = {"ffn": 128, "heads": 64, "input_norm": 64, "ffn_norm": 64}


def scores(parts: int, noise: float) -> Scores:
    """Parts of one truth with noise of a part's own."""
    draw = torch.Generator().manual_seed(1)

    def noisy(truth):
        return truth * torch.exp(noise * torch.randn(parts, *truth.shape, generator=draw))

    tensors = {f"{where}.subsets": noisy(torch.rand(6, SIZES[where], generator=draw)) for where in WIDTH}
    tensors["layers"] = noisy(torch.rand(6, generator=draw).double())
    measured = score_file.Measured(
        teacher="", architecture=TEACHER.as_dict(), layer_spec="", precision="fp32", samples=8 * parts, seq_length=16,
        micro_batch_size=8, seed=1, text=[], exercises=0, subsets=parts, versions={},
    )  # fmt: skip
    return Scores(tensors, measured)


def test_both_sets_have_n_samples_and_n_goes_up_to_half():
    found = stability.measure(scores(8, 0.3), STUDENT)
    assert found.samples == [8, 16, 24, 32] and found.total == 64
    assert stability.measure(scores(5, 0.3), STUDENT).samples == [8, 16]
    assert stability.measure(scores(1, 0.3), STUDENT) is None


def test_the_curve_rises_with_the_samples_where_they_are_noisy_and_is_level_at_1_where_they_are_not():
    noisy = stability.measure(scores(16, 0.5), STUDENT)
    for kind in ("FFN neurons", "hidden channels"):
        curve = noisy.correlation[kind]
        assert curve[-1] == max(curve) > curve[0] + 0.1
    exact = stability.measure(scores(8, 0.0), STUDENT)
    assert all(value == pytest.approx(1.0) for curve in exact.correlation.values() for value in curve)
    assert all(value == 1.0 for curve in exact.overlap.values() for value in curve)


def test_a_point_is_the_mean_over_neighbouring_disjoint_sets():
    made = scores(4, 0.5)
    parts = made.tensors["ffn.subsets"]

    def kept_by_both(one, other):
        tops = [set(values.argsort(descending=True)[:96].tolist()) for values in (one, other)]
        return len(tops[0] & tops[1]) / 96

    halves = parts[:2].sum(0), parts[2:].sum(0)
    found = stability.measure(made, STUDENT)
    whole = sum(map(kept_by_both, *halves)) / 6
    assert found.overlap["FFN neurons"][1] == pytest.approx(whole)
    quarters = sum(kept_by_both(parts[a, layer], parts[a + 1, layer]) for a in (0, 2) for layer in range(6)) / 12
    assert found.overlap["FFN neurons"][0] == pytest.approx(quarters)


def test_what_is_not_pruned_has_no_overlap_and_chance_is_the_share_that_stays():
    found = stability.measure(scores(8, 0.3), STUDENT)
    assert found.overlap.keys() == {"layers", "FFN neurons"} and found.chance["FFN neurons"] == 0.75
    heads = stability.measure(scores(8, 0.3), replace(STUDENT, num_attention_heads=4))
    assert 0.5 <= heads.overlap["attention heads"][-1] <= 1.0


def test_twice_the_samples_agree_by_spearman_and_browns_formula():
    assert stability.of_all(0.9) == pytest.approx(1.8 / 1.9) and stability.of_all(1.0) == 1.0 and stability.of_all(-0.2) == -0.2
