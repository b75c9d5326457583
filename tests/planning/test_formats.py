"""Bytes of weights against saved files, the `gguf` package, a published file's size and hand-made sums."""

import dataclasses
import json
import struct

import pytest

from nemo_plugins.configs.schema import Format
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.planning import formats

TEACHER = Architecture(50, 4096, 14336, 32, 8, 128, 32128)
MISTRAL = Architecture(32, 4096, 14336, 32, 8, 128, 32000)  # Mistral-7B-v0.1
SMALL = Architecture(3, 192, 320, 6, 2, 48, 640)


@pytest.mark.parametrize("changes", [{}, {"tied_embeddings": True}, {"gated": False}, *({"family": name} for name in FAMILIES)])
def test_the_tensors_are_those_of_the_parameters(changes):
    model = dataclasses.replace(SMALL, **changes)
    tensors = formats.layer_tensors(model) * model.num_layers + formats.outer_tensors(model)
    assert sum(tensor.rows * tensor.columns for tensor in tensors) == model.parameters()
    assert formats.weight_bytes(model, Format.fp32) == 4 * model.parameters()
    assert formats.weight_bytes(model, Format.bf16) == 2 * model.parameters()


@pytest.mark.parametrize(("format", "dtype"), [(Format.bf16, "bfloat16"), (Format.fp32, "float32")])
@pytest.mark.parametrize("tied", [False, True])
def test_bf16_and_fp32_equal_a_saved_file_without_its_header(tmp_path, format, dtype, tied):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = hf_config(transformers, SMALL, tied)
    transformers.MistralForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    with file.open("rb") as opened:
        (header,) = struct.unpack("<Q", opened.read(8))
    model = Architecture.from_hf(json.loads((tmp_path / "config.json").read_text()))
    assert model.tied_embeddings is tied
    assert formats.weight_bytes(model, format) == file.stat().st_size - 8 - header


def hf_config(transformers, model, tied=False):
    return transformers.MistralConfig(
        hidden_size=model.hidden_size,
        intermediate_size=model.ffn_hidden_size,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_attention_heads,
        num_key_value_heads=model.num_query_groups,
        head_dim=model.head_dim,
        vocab_size=model.vocab_size,
        tie_word_embeddings=tied,
        sliding_window=None,
    )


def test_blocks_are_those_of_the_gguf_package():
    gguf = pytest.importorskip("gguf")
    for kind, block in formats.BLOCKS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.upper()]] == block


def test_q4_k_m_is_the_published_file_but_for_its_vocabulary():
    # TheBloke/Mistral-7B-v0.1-GGUF, mistral-7b-v0.1.Q4_K_M.gguf: 4,368,438,912 bytes, of which 32,000 tokens with scores and
    # types, the tensors' names and padding are under a megabyte
    rest = 4_368_438_912 - formats.weight_bytes(MISTRAL, Format.q4_k_m)
    assert 500_000 < rest < 1_000_000


@pytest.mark.parametrize(("format", "printed"), [("q5_k_m", 5.13), ("q6_k", 5.94), ("q8_0", 7.70)])
def test_the_other_kinds_are_what_the_same_model_card_prints(format, printed):
    assert round(formats.weight_bytes(MISTRAL, Format(format)) / 1e9, 2) == printed


def test_layers_with_more_bits_of_32_and_50_layers():
    chosen = [layer for layer in range(32) if formats.use_more_bits(layer, 32)]
    assert chosen == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert sum(formats.use_more_bits(layer, 50) for layer in range(50)) == 6 + 7 + 12  # an eighth, the last, every third


def brute(model, base, better):
    """Bytes of a K-quant mix, layer by layer; every row is a whole number of blocks."""

    def matrix(rows, columns, size):
        return rows * columns // 256 * size

    hidden, ffn = model.hidden_size, model.ffn_hidden_size
    query, keys = model.num_attention_heads * model.head_dim, model.num_query_groups * model.head_dim
    total = matrix(model.vocab_size, hidden, base) + matrix(model.vocab_size, hidden, 210) + 4 * hidden
    for layer in range(model.num_layers):
        mixed = 210 if better and formats.use_more_bits(layer, model.num_layers) else base
        total += matrix(query, hidden, base) + matrix(keys, hidden, base) + matrix(keys, hidden, mixed)
        total += matrix(hidden, query, base) + 2 * matrix(ffn, hidden, base) + matrix(hidden, ffn, mixed) + 2 * 4 * hidden
    return total


@pytest.mark.parametrize(
    ("format", "base", "better"),
    [(Format.q4_k_m, 144, True), (Format.q5_k_m, 176, True), (Format.q6_k, 210, False)],
)
def test_k_quants_equal_a_sum_layer_by_layer(format, base, better):
    assert formats.weight_bytes(TEACHER, format) == brute(TEACHER, base, better)


@pytest.mark.parametrize(
    ("format", "columns", "options", "row"),
    [
        (Format.q4_k_m, 320, {}, 10 * 22),  # Q5_0
        (Format.q5_k_m, 320, {}, 10 * 24),  # Q5_1
        (Format.q6_k, 320, {}, 10 * 34),  # Q8_0
        (Format.q4_k_m, 320, {"more_bits": True}, 10 * 34),  # Q6_K's own fallback
        (Format.q4_k_m, 320, {"is_output": True}, 10 * 34),
        (Format.q4_k_m, 512, {"is_output": True}, 2 * 210),
        (Format.q8_0, 512, {"is_output": True}, 16 * 34),
        (Format.q4_k_m, 48, {}, 96),  # no blocks of 32 either: fp16
    ],
)
def test_rows_that_blocks_do_not_divide_fall_back(format, columns, options, row):
    assert formats.tensor_bytes(formats.GgufTensor("ffn_down", 7, columns), format, **options) == 7 * row


def test_a_tied_embedding_is_stored_as_the_output_is():
    tied = dataclasses.replace(TEACHER, tied_embeddings=True)
    for format in Format:
        spared = formats.weight_bytes(TEACHER, format) - formats.weight_bytes(tied, format)
        assert spared == formats.tensor_bytes(formats.GgufTensor("token_embd", 32128, 4096), format)


def test_fp8_has_a_byte_a_weight_and_a_scale_an_output():
    linear = TEACHER.parameters() - 2 * TEACHER.embedding_parameters - (2 * 50 + 1) * 4096
    outputs = 50 * (4096 + 2 * 1024 + 4096 + 2 * 14336 + 4096)
    rest = TEACHER.parameters() - linear
    assert formats.weight_bytes(TEACHER, Format.fp8) == linear + 2 * outputs + 2 * rest


def test_nvfp4_has_half_a_byte_a_weight_and_a_scale_for_sixteen():
    linear = TEACHER.parameters() - 2 * TEACHER.embedding_parameters - (2 * 50 + 1) * 4096
    rest = TEACHER.parameters() - linear
    assert formats.weight_bytes(TEACHER, Format.nvfp4) == linear // 2 + linear // 16 + 4 * 7 * 50 + 2 * rest


@pytest.mark.parametrize("format", list(Format))
def test_a_token_reads_all_but_the_input_embedding(format):
    embedding = formats.tensor_bytes(formats.GgufTensor("token_embd", 32128, 4096), format)
    assert formats.weight_bytes(TEACHER, format) - formats.bytes_per_token(TEACHER, format) == embedding
    tied = dataclasses.replace(TEACHER, tied_embeddings=True)
    assert formats.bytes_per_token(tied, format) == formats.weight_bytes(tied, format)
