"""How the files of a quantisation are called, and what llama.cpp could not load."""

import pytest

from nemo_plugins.planning import quantize_plan
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.prepare import compose


def test_no_two_stages_of_a_run_give_a_file_one_name():
    def name(*overrides: str) -> str:
        return quantize_plan.name(compose(["+model=tiny_pl", "run.name=mine/a", *overrides]))

    assert name() == name("run.stage=quantize") == "mine-a"
    assert name("run.stage=teacher-quantize") == "mine-a-teacher"
    assert name("run.stage=teacher-quantize", "export.name=asked") == "asked"


@pytest.mark.parametrize(
    ("model", "overrides", "refused"),
    [
        ("qwen25_7b", [], False),
        ("qwen25_7b", ["prune.num_layers=20", "prune.ffn_hidden_size=9216"], False),
        ("qwen25_7b", ["prune.hidden_size=3072"], True),
        ("qwen25_7b", ["prune.num_attention_heads=24"], True),
        ("qwen25_7b", ["prune.hidden_size=3072", "export.formats=[fp8]"], False),
        ("qwen3_8b", ["prune.hidden_size=3072"], False),
    ],
)
def test_what_llama_cpp_cannot_load_is_refused(model, overrides, refused):
    """It takes a Qwen2's heads together to be as wide as the hidden size."""
    cfg = compose([f"+model={model}", "export.verify.seq_length=2048", "export.imatrix.seq_length=2048", *overrides])
    try:
        quantize_plan.plan(cfg)
    except UserError as error:
        assert refused and "heads times head_dim" in str(error)
    else:
        assert not refused
