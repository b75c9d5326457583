"""Two processes on gloo give what one gives."""

import json

import pytest
import torch
from laptop import MEASURED, ok
from safetensors.torch import load_file

pytestmark = pytest.mark.nemo


# the state that copies share out is stopped and goes on as one process in test_interruption.py
@pytest.mark.parametrize(
    "layout", ["tensor", *(pytest.param(layout, marks=pytest.mark.slow) for layout in ("data", "pipeline"))]
)
def test_distillation(laptop, layout):
    """Copies that share out the optimizer's state, ranks that share out the model and each sequence, stages of a pipeline."""
    name, student = f"{layout}-parallel", f"student.path={laptop.run / 'prune' / 'checkpoint'}"
    split = [
        "platform.devices=2",
        "platform.shard_optimizer=true",
        *([] if layout == "data" else [f"platform.{layout}_parallel=2"]),
    ]
    ok(laptop.recipe("distill", f"run.name=tiny_pl-laptop/{name}", student, *split))
    for key, tolerance in (("loss", 2e-5), ("grad_norm", 2e-4), ("val_loss", 2e-5)):
        one, two = laptop.losses("distill", key), laptop.losses(f"{name}/distill", key)
        if layout == "pipeline" and key == "val_loss":
            one = one[1:]  # NeMo leaves out a pipeline's validation before the first step
        assert one == pytest.approx(two, rel=tolerance), key


MIX = ("distill.loss.kind=jsd", "distill.loss.temperature=2", "distill.loss.top_k=50", "distill.loss.alpha=0.6")


@pytest.mark.slow  # its parts have tests of their own: the loss in tests/distillation, the blend in tests/data
def test_another_loss_and_another_heldout_text(laptop, tmp_path):
    """One process against two tensor-parallel ones, everything that is watched; α stays what it is."""
    english = tmp_path / "english.txt"
    english.write_text("The quick brown fox jumps over the lazy dog and runs away from the old house.\n" * 200)
    shared = (*MIX, f"+data.heldout_more.en={english}", f"student.path={laptop.run / 'prune' / 'checkpoint'}")
    ok(laptop.recipe("distill", "run.name=tiny_pl-laptop/mix", *shared))
    split = ("platform.devices=2", "platform.tensor_parallel=2", "platform.recompute=full")
    ok(laptop.recipe("distill", "run.name=tiny_pl-laptop/mix-split", *shared, *split))
    values = {key: laptop.losses("mix/distill", key) for key in ("loss", "kd_loss", "ce", "agreement", "grad_norm")}
    for loss, kd, ce in zip(values["loss"], values["kd_loss"], values["ce"], strict=True):
        assert loss == pytest.approx(0.6 * kd + 0.4 * ce, rel=1e-5)
    names = [f"val_{what}{of}" for what in ("loss", "kl", "agreement") for of in ("", "_en")]
    values |= {key: laptop.losses("mix/distill", key) for key in names}
    assert values["val_loss_en"] != values["val_loss"]
    for key, one in values.items():
        few = {"grad_norm": {"rel": 2e-4}, "agreement": {"abs": 2 / 512}}  # two tokens of a step may tie otherwise
        tolerance = few.get(key.removeprefix("val_").removesuffix("_en"), {"rel": 2e-5})
        assert one and one == pytest.approx(laptop.losses("mix-split/distill", key), **tolerance), key


def test_pruning_in_a_pipeline(laptop, measured_prune, tmp_path):
    """Measured and pruned by two stages in a run root of their own, where no scores are kept yet."""
    teacher = f"teacher.path={laptop.run / 'convert-import' / 'checkpoint'}"
    split = ("platform.devices=2", "platform.pipeline_parallel=2", f"run.root={tmp_path}", "run.name=pipeline")
    ok(laptop.recipe("prune", *MEASURED, teacher, *split))
    folders = [measured_prune, tmp_path / "pipeline" / "prune"]
    one, two = (json.loads((folder / "summary.json").read_text()) for folder in folders)
    assert two["calibration"]["measured_here"] and one["kept_layers"] == two["kept_layers"]
    for metric in ("loss_before", "loss_after"):
        assert one["metrics"][metric] == pytest.approx(two["metrics"][metric], rel=1e-6)
    one, two = (load_file(folder / "scores.safetensors") for folder in folders)
    assert set(one) == set(two)
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=1e-5, atol=1e-9), name
    exports = []
    for place, folder in enumerate(folders):
        stage = (f"run.stage=pipeline-{place}", f"convert.source={folder / 'checkpoint'}")
        ok(laptop.recipe("convert", "convert.to=hf", "convert.dtype=fp32", *stage))
        exports.append(load_file(laptop.run / f"pipeline-{place}" / "hf" / "model.safetensors"))
    assert all(exports[0][name].equal(exports[1][name]) for name in exports[0])
