"""The pruning report: its numbers are those given, its pictures follow them, its verdicts are computed."""

import re
from dataclasses import replace

import numpy as np
import pytest

from nemo_plugins.models.architecture import Architecture
from nemo_plugins.pruning.stability import Stability
from nemo_plugins.reporting import plots, prune_report, pruning_plots

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

TEACHER = Architecture(
    num_layers=6,
    hidden_size=64,
    ffn_hidden_size=128,
    num_attention_heads=8,
    num_query_groups=4,
    head_dim=8,
    vocab_size=512,
)
STUDENT = TEACHER.with_sizes(num_layers=4, ffn_hidden_size=96, hidden_size=48)
KEPT = [0, 1, 2, 5]
STABLE = Stability(
    samples=[8, 16, 32],
    total=64,
    correlation={"layers": [0.9, 0.97, 0.99], "FFN neurons": [0.8, 0.9, 0.96]},
    overlap={"FFN neurons": [0.9, 0.95, 0.975]},
    chance={"FFN neurons": 0.75},
)


def top(scores, count):
    """Whether each score is among its row's `count` highest."""
    return np.argsort(np.argsort(-scores, axis=1), axis=1) < count


@pytest.fixture(scope="module")
def explained():
    draw = np.random.default_rng(0)
    ffn, heads, hidden = (draw.lognormal(size=shape) for shape in ((6, 128), (6, 8), (1, 64)))
    influence, loss = [0.9, 0.3, 0.25, 0.03, 0.05, 0.4], [3.0, 0.2, 0.1, -0.01, 0.02, 0.5]
    return prune_report.Explained(
        title="tiny_pl pruned",
        teacher=TEACHER,
        student=STUDENT,
        criterion="importance",
        kept_layers=KEPT,
        layer_criteria={"block influence": influence, "loss increase": loss},
        layer_scores=influence,
        width={
            "FFN neurons": (ffn, top(ffn, 96)),
            "attention heads": (heads, top(heads, 8)),
            "hidden channels": (hidden, top(hidden, 48)),
        },
        agreement=(["block influence", "loss increase"], np.array([[1.0, 0.94], [0.94, 1.0]])),
        stability=STABLE,
        removals=(2.0, {(first, first + 1): 2.1 + 0.1 * (first - 3) ** 2 for first in range(5)}, (3, 4)),
        calibration={"samples": 64, "seq_length": 256, "precision": "fp32"},
        losses=(2.0, 2.3456),
        unexplained={0: (0.25, 0.1), 5: (0.04, 0.03)},
    )


def table_cells(html):
    """Cells of every row of every table."""
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", row) for row in rows]


def test_the_report_has_the_numbers_that_it_was_given(tmp_path, explained):
    outputs = prune_report.write(tmp_path, explained)
    html = outputs["report"].read_text()
    rows = {cells[0]: cells[1:] for cells in reversed(table_cells(html))}
    assert rows["num_layers"] == ["6", "4", "-33.3 %"] and rows["num_attention_heads"] == ["8", "8", ""]
    assert rows["parameters"][:2] == [f"{TEACHER.parameters():,}", f"{STUDENT.parameters():,}"]
    assert rows["held-out loss (nats a token)"] == ["2.0000", "2.3456", "+0.3456"]
    assert rows["kept"] == ["4 of 6", "1–3, 6"] and rows["dropped"] == ["2 of 6", "4–5"]
    assert rows["4"] == ["0.0300", "-0.0100", "dropped"] and rows["6"] == ["0.4000", "0.5000", "kept"]
    scores, kept = explained.width["FFN neurons"]
    shares = sorted(100 * sum(row[mask]) / sum(row) for row, mask in zip(scores, kept, strict=True))
    wanted = [f"{share:.2f} %" for share in (shares[0], (shares[2] + shares[3]) / 2, shares[5])]
    assert rows["FFN neurons"] == ["96 of 128", *wanted]
    assert rows["attention heads"] == ["8 of 8", *["100.00 %"] * 3]
    assert "of 32 and 32 samples" in html and ["FFN neurons", "0.960", "0.980", "97.5 %", "75.0 %"] in table_cells(html)
    assert ["1", "25.00 %", "10.00 %", "60 %"] in table_cells(html) and ["6", "4.00 %", "3.00 %", "25 %"] in table_cells(html)
    assert rows["samples"] == ["64"] and rows["precision"] == ["fp32"]
    drawn = {path.stem for path in outputs["plots"].glob("*.png")}
    widths = {"ffn_neurons_distribution", "ffn_neurons_heatmap", "hidden_channels_distribution"}  # heads were not pruned
    assert drawn == {"layers", "removals", "agreement", "stability"} | widths
    assert html.count("<img ") == len(drawn) and all(path.stat().st_size > 5000 for path in outputs["plots"].glob("*.png"))


def test_what_was_not_measured_is_left_out(tmp_path, explained):
    bare = replace(
        explained,
        criterion="dropped by hand",
        layer_criteria={},
        layer_scores=[],
        width={},
        agreement=([], np.zeros((0, 0))),
        stability=None,
        removals=None,
        calibration={},
        unexplained={},
    )
    outputs = prune_report.write(tmp_path, bare)
    html = outputs["report"].read_text()
    assert set(outputs) == {"report"} and "<img" not in html and "Width" not in html and "enough" not in html
    assert "named by hand" in html and "1–3, 6" in html and "Compensation" not in html


def test_verdicts_follow_the_numbers():
    said = prune_report.stability_verdict(STABLE)
    assert said == "Enough samples: even two halves of 32 samples rank the FFN neurons alike to 0.960."
    fewer = replace(STABLE, samples=[8, 16], correlation={kind: curve[:2] for kind, curve in STABLE.correlation.items()})
    said = prune_report.stability_verdict(fewer)
    assert "More samples" in said and "two halves of 16 samples rank the FFN neurons alike to 0.900, less than 0.95" in said
    assert "not known" in prune_report.stability_verdict(replace(STABLE, samples=[8], correlation={"layers": [float("nan")]}))
    names = ["a", "b", "c"]
    assert "agree: which" in prune_report.agreement_verdict(names, np.full((3, 3), 0.9))
    said = prune_report.agreement_verdict(names, np.array([[1, 0.9, 0.1], [0.9, 1, np.nan], [0.1, np.nan, 1]]))
    assert "disagree" in said and "b and a (0.90)" in said and "c and a (0.10)" in said


def test_a_measure_that_did_not_decide_is_not_said_to_have(tmp_path, explained):
    for criterion, said in (("importance", True), ("random", False), ("loss_run", False), ("dropped by hand", False)):
        html = prune_report.write(tmp_path, replace(explained, criterion=criterion))["report"].read_text()
        assert ("under the criterion that decided" in html) is said and ("which did not decide" in html) is not said


def test_a_choice_within_groups_has_no_one_cut(tmp_path, explained):
    scores, _ = explained.width["attention heads"]
    kept = np.tile([True, False], (6, 4))  # one head of each group of two, whatever the others score
    html = prune_report.write(tmp_path, replace(explained, width={"attention heads": (scores, kept)}))["report"].read_text()
    assert "there is no one cut" in html and "4 of 8" in html


def test_the_place_in_the_model_is_no_measured_criterion():
    said = prune_report.agreement_verdict(["Block Influence", "first layers"], np.array([[1, 0.1], [0.1, 1]]))
    assert "fewer than two" in said


def test_spans_join_neighbours():
    assert prune_report.spans([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8" and prune_report.spans([]) == "none"


def test_share_kept_of_a_layer_without_importance_is_unknown():
    shares = prune_report.share_kept(np.array([[3.0, 1.0], [0.0, 0.0]]), np.array([[True, False]] * 2))
    assert shares[0] == 0.75 and np.isnan(shares[1])


@pytest.mark.parametrize("layers, count", [(6, 100), (1, 4096), (50, 14336)])
def test_width_pictures_follow_their_scores(tmp_path, layers, count):
    scores = np.random.default_rng(1).lognormal(size=(layers, count)).astype(np.float32)
    scores[0, :3] = 0.0  # dead ones have no place on a log scale
    first = pruning_plots.distribution(tmp_path / "a.png", scores, 0.75, "FFN neurons").read_bytes()
    assert first != pruning_plots.distribution(tmp_path / "b.png", scores**3, 0.75, "FFN neurons").read_bytes()
    assert first != pruning_plots.distribution(tmp_path / "c.png", scores, 0.5, "FFN neurons").read_bytes()
    heat = pruning_plots.heatmap(tmp_path / "d.png", scores, "FFN neurons").read_bytes()
    assert heat != pruning_plots.heatmap(tmp_path / "e.png", scores**3, "FFN neurons").read_bytes()
    assert min(len(first), len(heat)) > 5000


def test_scores_that_are_all_the_same_or_zero_are_drawn(tmp_path):
    for value in (0.0, 2.5):
        for shape in ((1, 8), (3, 8)):
            scores = np.full(shape, value)
            pruning_plots.distribution(tmp_path / "a.png", scores, 0.5, "heads")
            pruning_plots.heatmap(tmp_path / "b.png", scores, "heads")


def test_layers_are_counted_from_one_as_those_to_drop_are(tmp_path, explained):
    html = prune_report.write(tmp_path, explained)["report"].read_text()
    assert "counted from 1 on this page, as in prune.drop_layers; kept_layers in summary.json counts from 0" in html
    assert "layers, from 1" in html and "layer, from 1" in html


def test_layer_pictures_follow_their_numbers(tmp_path):
    drawn = {
        (criterion, kept): plots.layers(tmp_path / "l.png", [0.5, 0.1, 0.3], kept, criterion).read_bytes()
        for criterion in ("importance", "loss", "random", "a new one with $ in it")
        for kept in ((0, 2), (0, 1))
    }
    assert len(set(drawn.values())) == len(drawn)
    runs = {(first, first + length - 1): 2 + first * length / 10 for length in (1, 2) for first in range(4)}
    first = pruning_plots.removals(tmp_path / "r.png", 1.9, runs, (1, 2)).read_bytes()
    assert first != pruning_plots.removals(tmp_path / "s.png", 1.9, runs, None).read_bytes()
