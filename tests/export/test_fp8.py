"""FP8 dynamic: the numbers against another library's, the files against the format, memory against the shards."""

import json
import subprocess
import sys
from dataclasses import replace

import folders
import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationStrategy
from compressed_tensors.quantization.lifecycle.forward import quantize
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nemo_plugins.export import fp8
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import hf_folder
from nemo_plugins.runs import UserError

pytestmark = pytest.mark.long  # its tests start processes or draw pictures


def test_values_are_the_librarys_own_for_the_same_scales():
    weight = folders.noise(64, 96)
    values, scales = fp8.quantise(weight)
    args = QuantizationArgs(num_bits=8, type="float", symmetric=True, strategy=QuantizationStrategy.CHANNEL)
    zero = torch.zeros_like(scales)
    theirs = quantize(weight, scales.float(), zero, args, dtype=torch.float8_e4m3fn)
    assert torch.equal(values.view(torch.uint8), theirs.view(torch.uint8))
    assert torch.allclose(scales.float(), weight.abs().amax(1, keepdim=True) / 448, rtol=2**-8)
    # three bits of mantissa: at most a sixteenth of a value, and of the subnormal ones half a step
    error = (values.float() * scales.float() - weight).abs()
    assert (error <= weight.abs() / 16 + scales.float() * 2**-10 + weight.abs() * 2**-8).all()


def test_a_channel_of_zeros_stays_zero():
    values, scales = fp8.quantise(torch.zeros(3, 8))
    assert not values.float().any() and scales.isfinite().all()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fp8")
    source = hf_folder.read(folders.width_pruned(folder / "source"), "export")
    fp8.convert(source, folder / "fp8")
    return source, folder / "fp8"


def test_transformers_loads_it_and_computes_what_its_numbers_say(converted):
    """The reference quantises activations and weights by the definition, in fp32."""
    source, written = converted
    model = AutoModelForCausalLM.from_pretrained(written, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32)
    stored = load_file(written / "model.safetensors")
    names = [tensor.name for tensor in source.tensors.values() if tensor.is_linear]
    assert len(names) == 3 * 7 and all(stored[name].dtype is torch.float8_e4m3fn for name in names)
    assert stored["lm_head.weight"].dtype is torch.bfloat16 and f"{hf_folder.OUTPUT}_scale" not in stored

    def activations(_module, inputs):
        scale = inputs[0].abs().amax(-1, keepdim=True) / 448
        return ((inputs[0] / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale,)

    for name in names:
        layer = plain.get_submodule(name.removesuffix(".weight"))
        layer.weight.data = stored[name].float() * stored[f"{name}_scale"].float()
        layer.register_forward_pre_hook(activations)
    ids = torch.randint(0, 4094, (1, 48), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = plain(ids).logits.log_softmax(-1), model(ids).logits.log_softmax(-1)
    assert (ours.exp() * (ours - theirs)).sum(-1).mean() < 1e-3


def test_a_shard_that_an_attempt_finished_is_kept_and_half_a_one_is_not(tmp_path):
    small = Architecture(2, 64, 96, 2, 1, 128, 4096)
    folders.sparse(tmp_path / "source", small, shards=2)
    source = hf_folder.read(tmp_path / "source", "export")
    stopped = []

    def stop(done, of):
        stopped.append((done, of))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fp8.convert(source, tmp_path / "fp8", stop)
    [first] = (tmp_path / "fp8.partial").glob("*.safetensors")
    assert not (tmp_path / "fp8").exists() and stopped == [(1, 2)]
    before = first.stat().st_mtime_ns
    (tmp_path / "fp8.partial" / source.shards[1].name).write_bytes(b"half")
    fp8.convert(source, tmp_path / "fp8")
    assert (tmp_path / "fp8" / first.name).stat().st_mtime_ns == before
    for shard in source.shards:
        plain = {tensor.name for tensor in source.tensors.values() if tensor.shard == shard and not tensor.is_linear}
        with safe_open(tmp_path / "fp8" / shard.name, "pt") as file:
            assert set(file.keys()) > plain


def test_the_index_counts_the_bytes_of_the_tensors(tmp_path):
    folders.sparse(tmp_path / "source", Architecture(2, 64, 96, 2, 1, 128, 4096), shards=2)
    fp8.convert(hf_folder.read(tmp_path / "source", "export"), tmp_path / "fp8")
    index = json.loads((tmp_path / "fp8" / "model.safetensors.index.json").read_text())
    tensors = {name: value for file in (tmp_path / "fp8").glob("*.safetensors") for name, value in load_file(file).items()}
    assert index["weight_map"].keys() == tensors.keys()
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in tensors.values())


def test_weights_that_are_not_finite_are_refused(tmp_path):
    folder = folders.width_pruned(tmp_path / "source")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][5, 7] = float("inf")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="model.layers.1.mlp.down_proj.weight .* not finite"):
        fp8.convert(hf_folder.read(folder, "export"), tmp_path / "fp8")
    assert not (tmp_path / "fp8").exists()


PEAK = """
import sys
from pathlib import Path
from nemo_plugins.export import fp8
from nemo_plugins.planning import hf_folder
from nemo_plugins.runs import peak_memory_bytes
source = hf_folder.read(Path(sys.argv[1]), "export", pad_vocabulary=True)
fp8.convert(source, Path(sys.argv[2]))
print(peak_memory_bytes(), max(shard.stat().st_size for shard in source.shards))
"""


@pytest.mark.parametrize(("layers", "shards"), [(2, 2), pytest.param(50, 5, marks=pytest.mark.slow)])
def test_a_folder_of_11b_shape_takes_less_memory_than_two_of_its_shards(tmp_path, layers, shards):
    folders.sparse(tmp_path / "source", replace(folders.BIELIK_11B, num_layers=layers), shards)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "source"), str(tmp_path / "fp8")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folders.REPOSITORY)
    peak, largest = map(int, done.stdout.split())
    assert peak < 2 * largest, f"{peak:,} bytes beside shards of {largest:,}"
    assert peak < 1e9  # whatever the shards: torch itself and some rows
    for file in (tmp_path / "fp8").glob("*.safetensors"):
        file.unlink()
