"""Bytes that a token moves are those of the type that the model runs in."""

import json

import folders
import pytest

from nemo_plugins.configs.schema import Backend
from nemo_plugins.planning import checks
from nemo_plugins.serving import bench


@pytest.mark.parametrize(("gpu", "dtype", "width"), [(False, "bfloat16", 4), (True, "bfloat16", 2), (True, "float32", 4)])
def test_transformers_moves_the_folders_own_type_on_a_gpu_and_fp32_on_a_cpu(tmp_path, monkeypatch, gpu, dtype, width):
    monkeypatch.setattr(checks, "has_gpu", lambda: gpu)
    folder = folders.width_pruned(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps({**config, "dtype": dtype}))
    weights, value, sizes = bench._bytes(Backend.transformers, str(folder))
    read = sizes.parameters() - 4096 * 192  # a token reads one row of the input embedding
    assert (weights, value) == (width * read, width)
    assert bench._bytes(Backend.transformers, str(folder), "bfloat16")[1] == 2  # timed in its teacher's type
