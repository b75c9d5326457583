"""Counts against published figures and against a brute-force sum over the tensors."""

import pytest

from nemo_plugins.models.architecture import Architecture

TEACHER = Architecture(50, 4096, 14336, 32, 8, 128, 32128)
STUDENT = Architecture(40, 4096, 11264, 32, 8, 128, 32128)
ODD = Architecture(3, 96, 160, 6, 2, 20, 50)  # head_dim is not hidden / heads


def tensors(a: Architecture) -> list[tuple[int, ...]]:
    """Shapes of every tensor of a Mistral model."""
    q, kv = a.num_attention_heads * a.head_dim, a.num_query_groups * a.head_dim
    attention = [(q, a.hidden_size), (kv, a.hidden_size), (kv, a.hidden_size), (a.hidden_size, q)]
    ffn = [(a.ffn_hidden_size, a.hidden_size)] * (2 if a.gated else 1) + [(a.hidden_size, a.ffn_hidden_size)]
    layer = [*attention, *ffn, (a.hidden_size,), (a.hidden_size,)]
    embeddings = [(a.vocab_size, a.hidden_size)] * (1 if a.tied_embeddings else 2)
    return layer * a.num_layers + embeddings + [(a.hidden_size,)]


def size(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) == 2 else 1)


def test_the_papers_models_have_their_exact_parameters():
    assert TEACHER.parameters() == 11_168_796_672
    assert STUDENT.parameters() == 7_477_727_232
    assert round(TEACHER.parameters("paper") / 1e9, 2) == 11.04
    assert round(STUDENT.parameters("paper") / 1e9, 2) == 7.35


@pytest.mark.parametrize("changes", [{}, {"tied_embeddings": True}, {"gated": False}])
def test_parameters_equal_the_sum_over_the_tensors(changes):
    from dataclasses import replace

    architecture = replace(ODD, **changes)
    assert architecture.parameters() == sum(map(size, tensors(architecture)))


def test_paper_count_has_one_embedding_matrix_even_where_there_are_two():
    assert TEACHER.parameters() - TEACHER.parameters("paper") == 32128 * 4096
    tied = TEACHER.__class__(**{**TEACHER.as_dict(), "tied_embeddings": True})
    assert tied.parameters() == tied.parameters("paper") == TEACHER.parameters("paper")


def test_another_count_is_refused():
    with pytest.raises(ValueError, match="paper"):
        TEACHER.parameters("both")


def test_flops_equal_a_sum_over_the_matrices_and_the_positions():
    length = 7
    matrices = [shape for shape in tensors(ODD) if len(shape) == 2]
    linear = sum(2 * size(shape) for shape in matrices) - 2 * ODD.embedding_parameters  # the input embedding is a look-up
    width = ODD.num_attention_heads * ODD.head_dim
    attention = sum(2 * 2 * width * seen for seen in range(1, length + 1)) * ODD.num_layers  # scores and weighted sum
    assert ODD.flops_per_token(length) * length == linear * length + attention


def test_kv_cache_of_the_student():
    # 2 (k, v) x 40 layers x 8 groups x 128 x 2 bytes
    assert STUDENT.kv_cache_bytes(1, 2) == 163_840
    assert STUDENT.kv_cache_bytes(32768, 1) == 163_840 // 2 * 32768


def test_with_sizes_keeps_what_is_not_named():
    assert TEACHER.with_sizes(num_layers=40, ffn_hidden_size=11264, hidden_size=None) == STUDENT
    assert TEACHER.with_sizes({"num_layers": 40, "ffn_hidden_size": 11264}) == STUDENT
    assert TEACHER.with_sizes(hidden_size=3072).head_dim == 128


HF = {
    "model_type": "mistral",
    "num_hidden_layers": 50,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 32768,
}


def test_from_hf_reads_a_mistral_config_and_derives_head_dim():
    read = Architecture.from_hf(HF)
    assert read.parameters() == 11_168_796_672
    assert (read.head_dim, read.rope_base, read.context_length) == (128, 1e6, 32768)
    assert Architecture.from_hf({**HF, "head_dim": 96}).head_dim == 96
    assert Architecture.from_hf({**HF, "num_key_value_heads": None}).num_query_groups == 32


@pytest.mark.parametrize(
    ("change", "says"),
    [({"model_type": "gpt2"}, "gpt2"), ({"vocab_size": None}, "vocab_size"), ({"attention_bias": True}, "bias")],
)
def test_from_hf_refuses_what_it_cannot_count(change, says):
    with pytest.raises(ValueError, match=says):
        Architecture.from_hf({**HF, **change})
