"""Which models an evaluation takes from a run's folders."""

import json
from pathlib import Path

from nemo_plugins.evaluation import run_outputs
from nemo_plugins.runs.fingerprint import fingerprint
from nemo_plugins.runs.prepare import compose


def stage(run: Path, name: str, recipe: str, started: int, outputs: dict[str, str], inputs: tuple[str, ...] = ()) -> Path:
    folder = run / name
    folder.mkdir(parents=True)
    for output in outputs.values():
        (folder / output / "context").mkdir(parents=True)
        (folder / output / "config.json").write_text("{}")
    summary = {
        "started": f"2026-01-01T00:00:{started:02}+00:00",
        "command": f"python /somewhere/recipes/{recipe}.py +model=tiny_pl",
        "outputs": outputs,
        "inputs": {path: fingerprint(path) for path in inputs},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_models_are_what_the_stages_left_in_the_order_of_a_chain(tmp_path):
    run = tmp_path / "tiny_pl-laptop"
    cfg = compose(["+model=tiny_pl", "experiment=laptop", f"run.root={tmp_path}"])
    assert list(run_outputs.derived(cfg)) == ["teacher"]
    for number, (name, recipe) in enumerate((("grpo", "grpo"), ("distill", "distill"), ("dpo", "dpo"), ("prune", "prune"),
                                             ("sft", "sft"), ("dpo-plain", "dpo"))):  # fmt: skip
        stage(run, name, recipe, number, {"checkpoint": "checkpoint"})
    stage(run, "convert-import", "convert", 7, {"checkpoint": "checkpoint"})
    stage(run, "convert-export", "convert", 8, {"hf": "hf"}, (str(run / "grpo" / "checkpoint"),))
    left = stage(run, "quantize", "quantize", 9, {"fp8": "fp8", "imatrix": "imatrix", "q8_0": "q8_0"})
    summary = json.loads((left / "summary.json").read_text()) | {"source": {"path": "/the/source"}}
    summary["outputs"] |= {"q8_0": "gguf/m.gguf", "imatrix": "gguf/imatrix.gguf"}
    (left / "summary.json").write_text(json.dumps(summary))
    stage(run, "teacher-quantize", "quantize", 9, {"fp8": "fp8"})
    stage(run, "publish", "publish", 12, {"x": "x"})
    stage(run / "random", "distill", "distill", 10, {"checkpoint": "checkpoint"})
    stage(run, "sft.old-1", "sft", 11, {"checkpoint": "checkpoint"})
    (run / "sft-unfinished").mkdir()
    found = run_outputs.derived(cfg)
    assert list(found) == ["teacher", "pruned", "distilled", "sft", "dpo", "dpo-plain", "grpo", "fp8", "q8_0",
                           "teacher-fp8"]  # fmt: skip
    assert found["teacher"] == "assets/tiny_pl" and found["grpo"] == str(run / "grpo" / "checkpoint")
    assert found["q8_0"].endswith("quantize/gguf/m.gguf") and run_outputs.described_by(Path(found["q8_0"])) == Path(
        "/the/source"
    )
    assert run_outputs.export_of(run, run / "grpo" / "checkpoint") == run / "convert-export" / "hf"
    assert run_outputs.export_of(run, run / "sft" / "checkpoint") is None
    (run / "grpo" / "checkpoint" / "config.json").write_text('{"trained": "again"}')
    assert run_outputs.export_of(run, run / "grpo" / "checkpoint") is None


def test_two_models_that_agree_in_the_ends_of_their_files_are_not_one(tmp_path):
    import torch
    from safetensors.torch import save_file

    big = torch.zeros(600_000)  # 2.4 MB on either side of what differs
    for name, value in (("one", 0.0), ("two", 1.0)):
        (tmp_path / name).mkdir()
        tensors = {"a": big, "b": torch.full((1000,), value), "c": big.clone()}
        save_file(tensors, tmp_path / name / "model.safetensors")
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "two")
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "one")
