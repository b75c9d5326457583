"""Importance through NeMo and ModelOpt against plain hooks on the transformers model; one calibration for all students."""

import json
import subprocess

import numpy
import pytest
import torch
from laptop import MEASURED, REPOSITORY, activations, ok, score, train_batch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nemo_plugins.configs.schema import Aggregate, AggregationConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.pruning import score_file, stability
from nemo_plugins.pruning.scores import Scores

pytestmark = pytest.mark.nemo

SAMPLES, LAYERS = 16, 8
HEADS = ("prune.num_layers=7", "prune.ffn_hidden_size=704", "prune.num_attention_heads=4")


@pytest.fixture(scope="module")
def scores(measured_prune) -> Scores:
    return Scores.load(measured_prune / "scores.safetensors")


@pytest.fixture(scope="module")
def seen(laptop) -> dict[str, list[numpy.ndarray]]:
    """Activations of the calibration samples in transformers."""
    tokens = torch.stack([train_batch(laptop, "prune", index, *MEASURED) for index in range(SAMPLES)])
    places = activations(REPOSITORY / "assets" / "tiny_pl", tokens)
    assert all(len(found) == LAYERS for found in places.values())
    return places


def same(ours, theirs) -> None:
    """Equal to 1e-4, and in the same order up to ties: along our order theirs never rises by more than rounding."""
    ours, theirs = numpy.asarray(ours, dtype=numpy.float64), numpy.asarray(theirs, dtype=numpy.float64)
    assert ours.shape == theirs.shape
    assert ours == pytest.approx(theirs, rel=1e-4)
    ranked = numpy.take_along_axis(theirs, numpy.argsort(-ours, axis=-1, kind="stable"), -1)
    assert (numpy.diff(ranked, axis=-1) <= 2e-5 * numpy.abs(ranked[..., 1:])).all()


def test_block_influence_is_that_of_transformers(scores, seen):
    want = []
    for before, after in zip(seen["in"], seen["out"], strict=True):
        norms = numpy.linalg.norm(before, axis=-1) * numpy.linalg.norm(after, axis=-1)
        want.append(1 - ((before * after).sum(-1) / norms).mean())
    same(scores.layers, want)


def test_width_scores_are_those_of_transformers(scores, seen):
    for where in ("ffn", "heads", "input_norm", "ffn_norm"):
        same(scores.width(where, AggregationConfig()), [score(layer) for layer in seen[where]])
    same(scores.hidden(AggregationConfig()), sum(score(layer) for norm in ("input_norm", "ffn_norm") for layer in seen[norm]))
    heads = [numpy.sqrt((score(layer).reshape(8, 32) ** 2).sum(1)) for layer in seen["heads"]]
    same(scores.heads(AggregationConfig()), heads)


@pytest.mark.parametrize("sequence", Aggregate)
@pytest.mark.parametrize("samples", Aggregate)
def test_other_aggregations_come_from_the_same_pass(scores, seen, sequence, samples):
    brute = {
        Aggregate.mean: lambda a, axis: numpy.abs(a).mean(axis),
        Aggregate.l2: lambda a, axis: numpy.sqrt((a**2).sum(axis)),
        Aggregate.variance: lambda a, axis: a.var(axis),
    }
    want = [brute[samples](brute[sequence](layer.astype(numpy.float64), 1), 0) for layer in seen["ffn"]]
    assert scores.width("ffn", AggregationConfig(sequence, samples)).numpy() == pytest.approx(numpy.stack(want), rel=1e-3)


def test_the_subsets_add_up_and_are_those_of_the_first_samples(scores, seen):
    subsets = scores.tensors["ffn.subsets"]
    assert len(subsets) == 4 and torch.allclose(subsets.sum(0), scores.tensors["ffn.mean.squares"], rtol=1e-5)
    first = (numpy.abs(seen["ffn"][2][:4]).mean(1) ** 2).sum(0)
    assert subsets[0, 2].numpy() == pytest.approx(first, rel=1e-4)
    found = stability.measure(scores, Architecture.from_hf(json.loads((REPOSITORY / "assets/tiny_pl/config.json").read_text())))
    assert found.samples == [4, 8] and all(
        len(curve) == 2 and -1 <= min(curve) <= max(curve) <= 1 for curve in found.correlation.values()
    )


def test_removing_a_layer_costs_what_it_costs_in_transformers(laptop, measured_prune):
    """The report's second criterion: the loss on the first calibration samples with each layer left out."""
    key = score_file.key(score_file.read_header(measured_prune / "scores.safetensors"))
    stored = json.loads((laptop.root / ".scores" / f"{key}.removals-8.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(REPOSITORY / "assets" / "tiny_pl", torch_dtype=torch.float32)
    batch = [train_batch(laptop, "prune", index, *MEASURED, key=None) for index in range(8)]
    tokens, labels = (torch.stack([item[key] for item in batch]) for key in ("tokens", "labels"))

    def loss() -> float:
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model(tokens).logits.flatten(0, 1), labels.flatten()).item()

    assert stored["baseline"] == pytest.approx(loss(), abs=1e-4)
    layers = list(model.model.layers)
    for gone in (1, 4):
        model.model.layers = torch.nn.ModuleList(layer for layer in layers if layer is not layers[gone])
        assert stored["without"][f"{gone}-{gone}"] == pytest.approx(loss(), abs=1e-4)


@pytest.fixture(scope="module")
def other_student(laptop, measured_prune) -> dict:
    """Another student of the same teacher, with fewer heads."""
    ok(laptop.recipe("prune", "run.name=tiny_pl-laptop/heads", *MEASURED, *HEADS))
    return laptop.summary("heads/prune")


def test_a_later_student_takes_the_scores_with_no_pass_of_its_own(laptop, measured_prune, other_student):
    assert laptop.summary("measured/prune")["calibration"]["measured_here"] is True
    assert other_student["calibration"]["measured_here"] is False
    one, other = (load_file(laptop.run / name / "prune" / "scores.safetensors") for name in ("measured", "heads"))
    assert set(one) == set(other) and all(one[name].equal(other[name]) for name in one)


def test_the_heads_that_stay_are_the_most_important_of_each_group(laptop, scores, other_student):
    checkpoint = laptop.run / "heads" / "prune" / "checkpoint"
    ok(laptop.recipe("convert", "convert.to=hf", "run.stage=heads-hf", f"convert.source={checkpoint}"))
    student = load_file(laptop.run / "heads-hf" / "hf" / "model.safetensors")
    teacher = load_file(REPOSITORY / "assets" / "tiny_pl" / "model.safetensors")
    best = scores.heads(AggregationConfig()).view(LAYERS, 4, 2).argmax(-1)  # of 4 groups of 2 heads
    for place, layer in enumerate(other_student["kept_layers"]):

        def heads(folder, number, name, count, axis=0):
            weight = folder[f"model.layers.{number}.self_attn.{name}_proj.weight"].float()
            return [part.flatten().tolist() for part in weight.chunk(count, axis)]

        kept = [2 * group + int(best[layer, group]) for group in range(4)]
        queries = heads(teacher, layer, "q", 8)
        order = [queries.index(head) for head in heads(student, place, "q", 4)]  # ModelOpt may put the groups in another order
        assert sorted(order) == kept
        outputs, keys = heads(teacher, layer, "o", 8, axis=1), heads(teacher, layer, "k", 4)
        assert [outputs.index(head) for head in heads(student, place, "o", 4, axis=1)] == order
        assert [keys.index(head) for head in heads(student, place, "k", 4)] == [head // 2 for head in order]


def test_scores_of_another_teacher_are_refused_at_once(laptop, exported, measured_prune):
    """The pruned student as a teacher of its own: fewer layers than the scores know."""
    command = [word for word in laptop.command("prune") if not word.startswith(("+model=", "experiment="))]
    scores = measured_prune / "scores.safetensors"
    command += ["+model=from_hf", f"model.path={exported['pruned']}", f"prune.scores={scores}", "prune.num_layers=5"]
    command += [f"data.{part}=[assets/polish_text/{part}.jsonl.gz]" for part in ("train", "heldout")]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2 and "num_layers: 8 there, 6 here" in refused.stderr, refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_calibration_text_shorter_than_one_sequence_is_refused(laptop, tmp_path):
    (tmp_path / "short.txt").write_text("Ala ma kota.\n")
    short = ("data.exercises=0", f"prune.calibration.data=[{tmp_path / 'short.txt'}]")
    done = laptop.recipe("prune", "run.name=tiny_pl-laptop/short", *short)
    assert done.returncode == 2 and "less than one sequence" in done.stderr
    assert not (laptop.run / "short" / "prune" / "summary.json").exists()


def test_the_report_explains(measured_prune):
    page = (measured_prune / "report.html").read_text()
    summary = json.loads((measured_prune / "summary.json").read_text())
    for words in ("Block Influence", "FFN neurons", f"{summary['metrics']['loss_after']:.4f}", "6,819,072"):
        assert words in page
    plots = {path.stem for path in (measured_prune / "plots").glob("*.png")}
    assert {"layers", "agreement", "stability"} <= plots
