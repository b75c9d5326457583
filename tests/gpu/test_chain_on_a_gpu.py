"""The laptop's chain with `platform=gpu`: the same code, bf16, Transformer Engine where it is installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("gpu")


def recipe(name: str, root: Path, *overrides: str) -> None:
    command = [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), "+model=tiny_pl", f"run.root={root}", *overrides]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_conversion_is_exact(root):
    from safetensors.torch import load_file

    recipe("convert", root, "convert.to=nemo", "platform=gpu")
    recipe("convert", root, "convert.to=hf", "platform=gpu")
    before = load_file(REPOSITORY / "assets" / "tiny_pl" / "model.safetensors")
    after = load_file(root / "tiny_pl" / "convert-export" / "hf" / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_distillation_follows_the_cpu(root):
    losses = {}
    recipe("prune", root, "platform=cpu", "prune.calibration.samples=8", "data.heldout_samples=32")
    for kind in ("cpu", "gpu"):
        overrides = ("distill.max_steps=4", "distill.warmup_steps=1", f"platform={kind}", f"run.name=tiny_pl/{kind}")
        recipe("distill", root, f"student.path={root / 'tiny_pl' / 'prune' / 'checkpoint'}", *overrides)
        lines = map(json.loads, (root / "tiny_pl" / kind / "distill" / "metrics.jsonl").read_text().splitlines())
        losses[kind] = [line["loss"] for line in lines if "loss" in line]
    assert losses["gpu"] == pytest.approx(losses["cpu"], rel=0.02)


def test_packed_sequences_keep_dialogues_apart(root):
    """Transformer Engine's packed sequences have the loss of one dialogue a window, to bf16 accuracy; DPO starts at ln 2."""
    pytest.importorskip("transformer_engine")
    recipe("prune", root, "platform=cpu", "prune.calibration.samples=8", "data.heldout_samples=32")
    student = f"student.path={root / 'tiny_pl' / 'prune' / 'checkpoint'}"
    losses = {}
    for packing, windows in (("thd", 64), ("none", 512)):  # about as many dialogues a step
        steps = ("sft.max_steps=1", "sft.warmup_steps=0", "sft.prompts=[]")
        sizes = (*steps, "sft.micro_batch_size=8", f"sft.global_batch_size={windows}")
        recipe("sft", root, student, "platform=gpu", f"sft.packing={packing}", f"run.name=tiny_pl/{packing}", *sizes)
        line = json.loads((root / "tiny_pl" / packing / "sft" / "metrics.jsonl").read_text().splitlines()[0])
        losses[packing] = line["loss"]
    assert losses["thd"] == pytest.approx(losses["none"], rel=0.05)
    short = ("dpo.max_steps=1", "dpo.warmup_steps=0", "dpo.global_batch_size=8", "dpo.prompts=[]")
    recipe("dpo", root, student, "platform=gpu", *short)
    first = json.loads((root / "tiny_pl" / "dpo" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3) and abs(first["margin"]) < 0.01
