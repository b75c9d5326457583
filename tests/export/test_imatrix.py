"""The importance matrix: what it measures, the file of it, and that the quantiser heeds it."""

import folders
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from nemo_plugins.configs.schema import Target
from nemo_plugins.export import gguf_file, imatrix
from nemo_plugins.planning import hf_folder

pytestmark = pytest.mark.long  # its tests start processes or draw pictures


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(folders.TINY, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def matrix(model):
    draw = torch.Generator().manual_seed(0)
    return imatrix.measure(model, [torch.randint(3, 4094, (32,), generator=draw) for _ in range(3)])


def test_it_is_the_mean_square_of_what_a_weight_multiplies(model, matrix):
    draw = torch.Generator().manual_seed(0)
    windows = [torch.randint(3, 4094, (32,), generator=draw) for _ in range(3)]
    layer = model.model.layers[0]
    with torch.no_grad():
        normed = torch.cat([layer.input_layernorm(model.model.embed_tokens(window)) for window in windows])
    for name in ("attn_q", "attn_k", "attn_v"):
        assert matrix[f"blk.0.{name}.weight"] == pytest.approx(normed.square().mean(0).numpy(), rel=1e-4)
    assert len(matrix) == 8 * 7 and matrix["blk.7.ffn_down.weight"].shape == (1024,)


def test_the_file_of_it_reads_back(matrix, tmp_path):
    imatrix.save(tmp_path / "imatrix.gguf", matrix, windows=3, seq_length=32, dataset="test")
    read = imatrix.load(tmp_path / "imatrix.gguf")
    assert read.keys() == matrix.keys()
    for name, values in matrix.items():
        assert read[name] == pytest.approx(values, rel=1e-5)


def test_the_quantiser_errs_less_where_the_matrix_is_large(matrix, tmp_path):
    import gguf

    source = hf_folder.read(folders.TINY, "export")
    gguf_file.convert(source, tmp_path / "base.gguf", "tiny", adds_space=False)
    rng = np.random.default_rng(0)
    lopsided = {name: np.exp(2 * rng.normal(size=values.size)).astype(np.float32) for name, values in matrix.items()}
    gguf_file.quantise(tmp_path / "base.gguf", tmp_path / "without.gguf", Target.q4_k_m, 1, None)
    gguf_file.quantise(tmp_path / "base.gguf", tmp_path / "with.gguf", Target.q4_k_m, 1, lopsided)

    def values(file):
        return {
            tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type)
            for tensor in gguf.GGUFReader(tmp_path / file).tensors
            if tensor.name in lopsided
        }

    exact, plain, weighted = values("base.gguf"), values("without.gguf"), values("with.gguf")
    for name, columns in lopsided.items():
        errors = [((made[name] - exact[name]) ** 2 * columns).sum() for made in (plain, weighted)]
        assert errors[1] < 0.8 * errors[0], name
    # and only for the time of the call
    gguf_file.quantise(tmp_path / "base.gguf", tmp_path / "after.gguf", Target.q4_k_m, 1, None)
    assert (tmp_path / "after.gguf").read_bytes() == (tmp_path / "without.gguf").read_bytes()
