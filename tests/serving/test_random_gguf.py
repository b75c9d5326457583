"""Random weights of a shape: the bytes that the trained file would have, and llama.cpp runs them."""

from dataclasses import replace

import gguf
import pytest

from nemo_plugins.configs.schema import Format, Target
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.planning import formats, quantize_plan
from nemo_plugins.planning.estimate import PAPER
from nemo_plugins.serving import bench, random_gguf
from nemo_plugins.serving.llama_cpp import LlamaCpp

SMALL = Architecture(3, 512, 768, 8, 2, 64, 1000, context_length=128)


@pytest.mark.parametrize(
    ("family", "target"),
    [("mistral", target) for target in (Target.f16, Target.q8_0, Target.q6_k, Target.q5_k_m)]
    + [(family, Target.q4_k_m) for family in FAMILIES],
)
def test_a_file_has_the_planners_bytes_and_runs(tmp_path, family, target):
    path, small = tmp_path / "random.gguf", replace(SMALL, family=family)
    random_gguf.write(path, small, target)
    reader = gguf.GGUFReader(path)
    assert sum(int(tensor.n_bytes) for tensor in reader.tensors) == quantize_plan.stored_bytes(small, target)
    assert replace(bench.gguf_architecture(reader), family=family).parameters() == small.parameters()
    model = LlamaCpp(path, context=32)
    assert not model.has_vocabulary and model.vocab_size == 1000
    [at] = model.read([[3, 4, 5]])
    assert model.logits([3, 4, 5]).shape == (3, 1000) and at == 2


def test_the_bytes_of_a_token_are_the_planners_for_the_papers_models():
    teacher, student = (random_gguf.bytes_per_token(model, Target.q4_k_m) for model in (PAPER.teacher, PAPER.student))
    assert (teacher, student) == tuple(
        formats.bytes_per_token(model, Format.q4_k_m) for model in (PAPER.teacher, PAPER.student)
    )


def test_whole_models_lie_on_the_line_through_two_sizes_of_them():
    shape = bench.Shape("x", *(Architecture(layers, 512, 768, 8, 2, 64, 1000) for layers in (20, 4, 2)))
    row = {"sequences": 1, "new_tokens": 9, "backend": "llama_cpp", "format": "f16", "model": "x", "tokens_per_second": {}}

    def sized(model):
        moved = random_gguf.bytes_per_token(model, Target.f16) + model.kv_cache_bytes(40)
        times = dict.fromkeys(("median", "low", "high"), 1e-3 + moved / 1e9)
        return {**row, "bytes_moved": moved, "first": times, "each": times}

    whole = bench.extrapolated(shape, Target.f16, sized(shape.built), sized(shape.half), 40)
    wanted = sized(shape.full)
    assert whole["bytes_moved"] == wanted["bytes_moved"] and whole["extrapolated"]
    assert whole["each"]["median"] == pytest.approx(wanted["each"]["median"])
    assert whole["tokens_per_second"]["median"] == pytest.approx(9 / (9 * wanted["each"]["median"]))


@pytest.mark.parametrize(("small", "large"), [((1.0, 4.0), (7.0, 7.1)), ((2.0, 2.1), (4.0, 9.0)), ((2.0, 9.0), (4.0, 4.5))])
def test_quartiles_of_a_whole_model_hold_its_median_however_uneven_the_sizes_were(small, large):
    shape = bench.Shape("x", *(Architecture(layers, 512, 768, 8, 2, 64, 1000) for layers in (20, 4, 2)))
    row = {"sequences": 1, "new_tokens": 9, "tokens_per_second": {}}

    def sized(model, low, high):
        moved = random_gguf.bytes_per_token(model, Target.f16) + model.kv_cache_bytes(40)
        times = {"low": low, "median": (low + high) / 2, "high": high}
        return {**row, "bytes_moved": moved, "first": times, "each": times}

    whole = bench.extrapolated(shape, Target.f16, sized(shape.built, *large), sized(shape.half, *small), 40)
    for name in ("first", "each", "tokens_per_second"):
        assert 0 < whole[name]["low"] <= whole[name]["median"] <= whole[name]["high"], name
    assert whole["each"]["low"] >= large[0]
