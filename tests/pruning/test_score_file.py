"""Scores on disk: whole or not there, refused with the reason, read without torch."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nemo_plugins.pruning import score_file
from nemo_plugins.pruning.score_file import Measured
from nemo_plugins.runs import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def measured():
    sizes = {"num_layers": 2, "hidden_size": 4, "num_attention_heads": 2}
    return Measured("abc", sizes, "local", "bf16", 8, 16, 2, 1, ["t1"], 0, 4, {"nvidia-modelopt": "0.37.0"})


def test_tensors_and_header_come_back(tmp_path, measured):
    path, tensors = tmp_path / "s.safetensors", {"layers": torch.rand(4, 2, dtype=torch.float64), "x": torch.rand(3).bfloat16()}
    score_file.save(path, tensors, measured)
    assert score_file.read_header(path) == measured
    back = score_file.load(path)
    assert all(back[name].equal(tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"teacher": "other"}, "teacher: other there, abc here"),
        ({"teacher": "0123456789abcdef"}, r"teacher: 0123456789abcdef \(an earlier version's, of files' ends alone\) there"),
        ({"layer_spec": "transformer_engine"}, "layer spec: transformer_engine there, local here"),
        ({"versions": {"nvidia-modelopt": "0.38.0"}}, "ModelOpt: 0.38.0 there, 0.37.0 here"),
        ({"architecture": {"num_layers": 3, "hidden_size": 4}}, "num_layers: 3 there, 2 here"),
        ({"format": 0}, "format of the file: 0 there, 1 here"),
    ],
)
def test_scores_of_another_teacher_spec_or_version_are_refused(tmp_path, measured, change, says):
    score_file.save(tmp_path / "s.safetensors", {"x": torch.zeros(1)}, dataclasses.replace(measured, **change))
    with pytest.raises(UserError, match=says):
        score_file.check(tmp_path / "s.safetensors", measured)


def test_scores_of_another_calibration_are_another_file_but_not_refused(tmp_path, measured):
    longer = dataclasses.replace(measured, samples=16, text=["t2"])
    assert score_file.key(longer) != score_file.key(measured) == score_file.key(dataclasses.replace(measured))
    score_file.save(tmp_path / "s.safetensors", {"x": torch.zeros(1)}, longer)
    assert score_file.check(tmp_path / "s.safetensors", measured) == longer


def test_what_is_no_file_of_scores_is_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(UserError, match="prune.scores: no file"):
        score_file.read_header(tmp_path / "absent")
    save_file({"x": torch.zeros(1)}, tmp_path / "stranger.safetensors")
    with pytest.raises(UserError, match="does not say what it was measured with"):
        score_file.read_header(tmp_path / "stranger.safetensors")
    whole = (tmp_path / "stranger.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-1])
    with pytest.raises(UserError, match="fetch this file again"):
        score_file.read_header(tmp_path / "cut.safetensors")


@pytest.mark.long
def test_a_full_disk_leaves_no_file_and_says_so(tmp_path):
    """/dev/full is a disk without room: the temporary name is a link to it."""
    script = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
import torch
from nemo_plugins.pruning import score_file
from nemo_plugins.runs import Run, atomic
from nemo_plugins.runs.stages import by_name
from types import SimpleNamespace
import importlib; recipe = importlib.import_module("nemo_plugins.runs.recipe")
from nemo_plugins.runs.prepare import compose
from pathlib import Path
path = Path({str(tmp_path)!r}) / "s.safetensors"
atomic.uuid4 = lambda: SimpleNamespace(hex="x")
os.symlink("/dev/full", path.with_name(f".{{path.name}}.x"))
measured = score_file.Measured("a", {{}}, "local", "bf16", 8, 16, 2, 1, [], 0, 4, {{}})
cfg = compose(["+model=tiny_pl", "run.root={tmp_path}/runs"])
def main(cfg, run):
    os.symlink("/dev/full", run.folder / ".state.json.x")  # nor is there room for the note of the time used
    score_file.save(path, {{"x": torch.zeros(1000)}}, measured)
try:
    recipe._work(main, by_name()["eval"], cfg, Run(cfg, "prune", "prune"))
except recipe.UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "no room left on the disk" in done.stdout and "make room" in done.stdout, done.stdout + done.stderr
    assert not [path for path in tmp_path.iterdir() if "safetensors" in path.name]


def test_the_header_is_read_without_torch(tmp_path, measured):
    score_file.save(tmp_path / "s.safetensors", {"x": torch.zeros(1)}, measured)
    script = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from pathlib import Path\nfrom nemo_plugins.pruning import score_file\n"
        f"print(score_file.read_header(Path({str(tmp_path / 's.safetensors')!r})).teacher)\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "abc", done.stderr
