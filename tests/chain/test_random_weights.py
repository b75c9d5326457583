"""A run on random weights, before anything is fetched: imported, exported, timed in training."""

import json

import pytest
import torch
from laptop import ok
from safetensors.torch import load_file

from nemo_plugins.models import hf_config

pytestmark = pytest.mark.nemo
RANDOM = ("convert.random=true", "run.name=random")
STUDENT = ("model.num_layers=6", "model.ffn_hidden_size=768", "run.stage=random-student")  # the recommended one's sizes
NO_TEXT = ("data.train=[]", "data.heldout=[]", "data.exercises=0", "data.exercises_share=null")


def summary(stage) -> dict:
    return json.loads((stage / "summary.json").read_text())


def test_random_weights_are_timed_in_training_and_say_what_they_are(laptop):
    made = ok(laptop.recipe("convert", *RANDOM))
    assert "nobody has trained these weights" in made.stderr
    run = laptop.root / "random"
    assert summary(run / "convert-import")[hf_config.RANDOM] == 1234
    ok(laptop.recipe("convert", "convert.to=hf", *RANDOM))  # as a chain hands it on
    drawn, exported = (run / stage / "hf" for stage in ("convert-import", "convert-export"))
    before, after = (load_file(folder / "model.safetensors") for folder in (drawn, exported))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert hf_config.random_weights(exported) == 1234

    ok(laptop.recipe("convert", *RANDOM, *STUDENT))
    student = f"student.path={run / 'random-student'}"
    asked = ("bench", "run.name=random", "bench.training=distill", "bench.repetitions=2", student, *NO_TEXT)
    said = ok(laptop.recipe(*asked)).stdout
    measured = summary(run / "bench-distill")["training"]
    assert (measured["stage"], measured["steps"]) == ("distill", 2)
    tokens, seconds = 8 * 64, measured["step_seconds"]["median"]  # of a step
    assert measured["tokens_per_second"] == pytest.approx(tokens / seconds, rel=0.2)
    assert measured["hours"] == pytest.approx(seconds * 6 / 3600)
    assert measured["plan"]["hours"] > 0 and 0.5 < measured["peak_memory_bytes"] / measured["plan"]["bytes"] < 2
    table = (run / "bench-distill" / "table.md").read_text()
    assert "tokens/s" in said and "measured / plan" in table and "hours of 6 steps" in table
    left = {path.name for path in (run / "bench-distill").iterdir()}
    assert left == {"config.yaml", "log.txt", "state.json", "summary.json", "table.md", ".lock"}
    assert "nothing to do" in ok(laptop.recipe(*asked)).stdout
    other = laptop.recipe(*asked, "distill.micro_batch_size=2")
    assert other.returncode == 2 and "distill.micro_batch_size: 4 there, 2 asked for" in other.stderr


def test_a_teacher_that_is_there_stays(laptop):
    before = (laptop.run / "convert-import" / "summary.json").read_bytes()
    refused = laptop.recipe("convert", "convert.random=true")
    assert refused.returncode == 2 and "convert.random: None there, True asked for" in refused.stderr
    assert (laptop.run / "convert-import" / "summary.json").read_bytes() == before
