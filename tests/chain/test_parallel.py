"""Two processes on gloo give what one gives."""

import pytest
from laptop import ok
from safetensors.torch import load_file


@pytest.mark.parametrize("layout", ["data", "tensor_parallel"])
def test_distillation(laptop, layout):
    name = f"tiny_pl-laptop/{layout}"
    split = [] if layout == "data" else ["platform.tensor_parallel=2"]
    student = f"student.path={laptop.run / 'prune' / 'checkpoint'}"
    ok(laptop.recipe("distill", f"run.name={name}", student, "platform.devices=2", *split))
    for key, tolerance in (("loss", 2e-5), ("grad_norm", 2e-4), ("val_loss", 2e-5)):
        one, two = laptop.losses("distill", key), laptop.losses(f"{layout}/distill", key)
        assert one == pytest.approx(two, rel=tolerance), key


def test_pruning_in_a_pipeline(laptop, exported):
    ok(laptop.recipe("prune", "run.name=tiny_pl-laptop/pipeline", "platform.devices=2", "platform.pipeline_parallel=2"))
    one, two = laptop.summary("prune"), laptop.summary("pipeline/prune")
    assert one["kept_layers"] == two["kept_layers"]
    assert one["layer_scores"] == pytest.approx(two["layer_scores"], rel=1e-3)
    for metric in ("loss_before", "loss_after"):
        assert one["metrics"][metric] == pytest.approx(two["metrics"][metric], rel=1e-3)
    ok(
        laptop.recipe(
            "convert", "convert.to=hf", f"convert.source={laptop.run / 'pipeline/prune/checkpoint'}", "run.stage=pp-hf"
        )
    )
    checkpoint = laptop.run / "pipeline" / "prune" / "checkpoint"
    ok(laptop.recipe("convert", "convert.to=hf", f"convert.source={checkpoint}", "run.stage=pipeline-hf"))
    one, two = (load_file(folder / "model.safetensors") for folder in (exported["pruned"], laptop.run / "pipeline-hf" / "hf"))
    assert all(one[name].equal(two[name]) for name in one)
