"""A chain on random weights, before anything is fetched: imported, exported, timed in training."""

import json

import pytest
import torch
from laptop import ok
from safetensors.torch import load_file

from nemo_plugins.models import hf_config

pytestmark = pytest.mark.nemo


def test_they_are_imported_and_say_so_until_they_are_exported(laptop):
    made = ok(laptop.recipe("convert", "convert.random=true", "run.name=random"))
    assert "nobody has trained these weights" in made.stderr
    run = laptop.root / "random"
    assert json.loads((run / "convert-import" / "summary.json").read_text())[hf_config.RANDOM] == 1234
    ok(laptop.recipe("convert", "convert.to=hf", "convert.random=true", "run.name=random"))  # as a chain hands it on
    drawn, exported = (run / stage / "hf" for stage in ("convert-import", "convert-export"))
    before, after = (load_file(folder / "model.safetensors") for folder in (drawn, exported))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert hf_config.random_weights(exported) == 1234


def test_a_teacher_that_is_there_stays(laptop):
    before = (laptop.run / "convert-import" / "summary.json").read_bytes()
    refused = laptop.recipe("convert", "convert.random=true")
    assert refused.returncode == 2 and "convert.random: None there, True asked for" in refused.stderr
    assert (laptop.run / "convert-import" / "summary.json").read_bytes() == before
