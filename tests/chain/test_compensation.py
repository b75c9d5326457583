"""`prune.compensate` through NeMo and ModelOpt against least squares on the activations of transformers."""

import json

import numpy
import pytest
import torch
from laptop import HELDOUT, MEASURED, REPOSITORY, ok, train_batch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nemo_plugins.configs.schema import AggregationConfig
from nemo_plugins.data.module import Windows
from nemo_plugins.pruning import compensate
from nemo_plugins.pruning.scores import Scores

pytestmark = pytest.mark.nemo

COMPENSATE, SAMPLES = "prune.compensate=true", 16


@pytest.fixture(scope="module")
def compensated(laptop, measured_prune):
    """Run folder of the same pruning with compensation."""
    ok(laptop.recipe("prune", "run.name=tiny_pl-laptop/compensated", *MEASURED, COMPENSATE))
    return laptop.run / "compensated" / "prune"


@pytest.fixture(scope="module")
def exports(laptop, measured_prune, compensated):
    """Both students as Hugging Face folders in fp32."""
    folders = []
    for folder in (measured_prune, compensated):
        stage = f"{folder.parent.name}-hf"
        source = f"convert.source={folder / 'checkpoint'}"
        ok(laptop.recipe("convert", "convert.to=hf", "convert.dtype=fp32", f"run.stage={stage}", source))
        folders.append(laptop.run / stage / "hf")
    return folders


def metrics(folder) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_the_same_student_is_nearer_to_its_teacher(measured_prune, compensated):
    plain, better = metrics(measured_prune), metrics(compensated)
    assert plain["kept_layers"] == better["kept_layers"] and plain["unexplained"] == {}
    assert plain["metrics"]["loss_before"] == better["metrics"]["loss_before"]
    assert better["metrics"]["loss_before"] < better["metrics"]["loss_after"] < plain["metrics"]["loss_after"]
    assert [int(layer) for layer in better["unexplained"]] == better["kept_layers"]
    assert all(0 < after < before < 1 for before, after in better["unexplained"].values())


def test_the_new_weights_are_least_squares_on_transformers_activations(laptop, measured_prune, compensated, exports):
    """On what the kept layers compute without the dropped ones; all other weights are those of plain pruning."""
    summary, teacher = metrics(compensated), AutoModelForCausalLM.from_pretrained(REPOSITORY / "assets" / "tiny_pl").float()
    kept_layers = [teacher.model.layers[layer] for layer in summary["kept_layers"]]
    seen: list[numpy.ndarray] = []
    for layer in kept_layers:
        layer.mlp.down_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten(0, 1).double().numpy()))
    teacher.model.layers = torch.nn.ModuleList(kept_layers)
    with torch.no_grad():
        teacher(torch.stack([train_batch(laptop, "prune", index, *MEASURED) for index in range(SAMPLES)]), use_cache=False)
    importance = Scores.load(measured_prune / "scores.safetensors").width("ffn", AggregationConfig())
    plain, better = (load_file(folder / "model.safetensors") for folder in exports)
    for place, (number, activations) in enumerate(zip(summary["kept_layers"], seen, strict=True)):
        name = f"model.layers.{place}.mlp.down_proj.weight"
        weight = kept_layers[place].mlp.down_proj.weight.detach().double().numpy()
        kept = importance[number].argsort(descending=True)[: plain[name].shape[1]].numpy()
        mine = activations[:, kept]
        damping = numpy.sqrt(compensate.RIDGE * (mine**2).sum(0).mean()) * numpy.eye(len(kept))
        targets = numpy.concatenate([activations @ weight.T, damping @ weight[:, kept].T])
        want = numpy.linalg.lstsq(numpy.concatenate([mine, damping]), targets, rcond=None)[0].T
        found = better.pop(name).double().numpy()
        assert plain.pop(name).double().numpy() == pytest.approx(weight[:, kept])
        assert numpy.linalg.norm(found - want) < 1e-3 * numpy.linalg.norm(found - weight[:, kept])
        missing = [((activations @ weight.T - mine @ one.T) ** 2).sum() for one in (weight[:, kept], found)]
        shares = numpy.array(missing) / ((activations @ weight.T) ** 2).sum()
        assert summary["unexplained"][str(number)] == pytest.approx(shares, rel=1e-3)
    assert all(plain[name].equal(better[name]) for name in plain)


def test_the_exported_student_has_the_loss_that_was_reported(laptop, compensated, exports):
    prefix = next((laptop.root / ".tokens").glob("heldout-*/tokens.bin")).with_suffix("")
    windows = [Windows(str(prefix), 256, HELDOUT)[index] for index in range(HELDOUT)]
    tokens, labels = (torch.stack([window[key] for window in windows]) for key in ("tokens", "labels"))
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(exports[1], torch_dtype=torch.float32)(tokens).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).item()
    assert loss == pytest.approx(metrics(compensated)["metrics"]["loss_after"], abs=1e-5)


def test_the_report_says_what_it_brought(measured_prune, compensated):
    page = (compensated / "report.html").read_text()
    assert "<h2>Compensation</h2>" in page and "<h2>Compensation</h2>" not in (measured_prune / "report.html").read_text()
    for before, after in metrics(compensated)["unexplained"].values():
        assert f"{100 * before:.2f} %" in page and f"{100 * after:.2f} %" in page


@pytest.mark.slow
def test_a_pipeline_compensates_alike(laptop, compensated, tmp_path):
    teacher = f"teacher.path={laptop.run / 'convert-import' / 'checkpoint'}"
    split = ("platform.devices=2", "platform.pipeline_parallel=2", f"run.root={tmp_path}", "run.name=pipeline")
    ok(laptop.recipe("prune", *MEASURED, COMPENSATE, teacher, *split))
    one, two = metrics(compensated), metrics(tmp_path / "pipeline" / "prune")
    assert two["metrics"]["loss_after"] == pytest.approx(one["metrics"]["loss_after"], abs=1e-5)
    assert list(one["unexplained"]) == list(two["unexplained"])
    for layer, shares in one["unexplained"].items():
        assert two["unexplained"][layer] == pytest.approx(shares, rel=1e-4)
