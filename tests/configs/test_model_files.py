"""The model files against the public figures of their models."""

import json

import pytest

from nemo_plugins.configs import options
from nemo_plugins.configs.schema import Format
from nemo_plugins.planning import checks, formats
from nemo_plugins.runs import UserError, architecture
from nemo_plugins.runs.prepare import compose

PARAMETERS = {
    "bielik11b": 11_168_796_672,
    "bielik7b": 7_477_727_232,
    "bielik4_5b": 4_757_260_288,
    "bielik1_5b": 1_596_507_648,
    "mistral7b": 7_248_023_552,
    "mistral_nemo12b": 12_247_782_400,
    "llama31_8b": 8_030_261_248,
    "pllum12b": 12_247_782_400,
    "pllum8b": 8_030_261_248,
    "qwen25_7b": 7_615_616_512,
    "qwen3_8b": 8_190_735_360,
    "tiny_pl": 9_965_824,
}
MODELS = [name for name in options("model") if name != "from_hf"]


def test_every_model_file_is_held_against_a_figure():
    assert set(MODELS) == set(PARAMETERS)


@pytest.mark.parametrize("name", MODELS)
def test_parameters(name):
    cfg = compose([f"+model={name}"])
    assert cfg.model.name == name
    assert cfg.model.source
    assert architecture(cfg.model).parameters() == PARAMETERS[name]


@pytest.mark.parametrize("name", MODELS)
def test_the_recommended_student_is_about_a_third_smaller_and_can_be_pruned_to(name):
    cfg = compose([f"+model={name}"])
    student = checks.student(cfg)
    assert 0.62 < student.parameters() / PARAMETERS[name] < 0.72
    assert student.ffn_hidden_size % 256 == 0
    assert cfg.prune.ffn_hidden_size == student.ffn_hidden_size  # the resolved configuration says what it will do


def test_a_named_size_leaves_the_rest_to_the_teacher():
    cfg = compose(["+model=bielik11b", "prune.num_layers=44"])
    assert checks.student(cfg) == architecture(cfg.model).with_sizes(num_layers=44)
    dropped = compose(["+model=bielik11b", "prune.drop_layers=[3,4]"])
    assert checks.student(dropped) == architecture(cfg.model).with_sizes(num_layers=48)


def test_what_a_model_recommends_reaches_the_stages():
    cfg = compose(["+model=tiny_pl"])
    assert cfg.distill.max_steps == cfg.pretrain.max_steps == cfg.model.recommended.max_steps
    assert cfg.distill.data == cfg.prune.calibration.data == cfg.model.recommended.train_data
    assert compose(["+model=tiny_pl", "data.train=[mine.txt]"]).distill.data == ["mine.txt"]


def test_bieliks_small_models_are_the_published_files_to_the_byte():
    """Both files in Q8_0 hold one vocabulary beside their tensors, and what names a tensor."""
    published = {"bielik4_5b": 5_061_215_424, "bielik1_5b": 1_699_568_096}
    rest = {}
    for name, size in published.items():
        model = architecture(compose([f"+model={name}"]).model)
        tensors = formats.layer_tensors(model)
        named = sum(len(f"blk.00.{one.file_name}") + 24 + (16 if one.rows > 1 else 8) for one in tensors)
        rest[name] = size - formats.weight_bytes(model, Format.q8_0) - model.num_layers * named
    assert 600_000 < rest["bielik1_5b"] < 900_000  # 32,000 tokens of 24 bytes
    assert abs(rest["bielik4_5b"] - rest["bielik1_5b"]) < 400


def test_llama_keeps_its_rope_scaling():
    cfg = compose(["+model=llama31_8b"])
    assert cfg.model.family.value == "llama"
    assert cfg.model.rope_scaling["factor"] == 8.0


def hf_folder(folder, **changes):
    config = {
        "model_type": "llama",
        "num_hidden_layers": 4,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}  # fmt: skip


def test_from_hf_takes_the_sizes_from_the_folder(tmp_path):
    folder = hf_folder(tmp_path / "mine", rope_scaling=LLAMA3)
    cfg = compose(["+model=from_hf", f"model.path={folder}", "prune.num_layers=3"])
    assert (cfg.model.name, cfg.model.family.value, cfg.run.name) == ("mine", "llama", "mine")
    assert (cfg.model.head_dim, cfg.model.tied_embeddings, cfg.model.rope_scaling["factor"]) == (32, True, 4.0)
    assert cfg.distill.seq_length == 1024  # not beyond its context
    assert checks.student(cfg).num_layers == 3


@pytest.mark.parametrize(
    ("path", "says"),
    [("nowhere", "no folder nowhere"), ("some/model", "huggingface-cli download some/model"), (None, "model.path")],
)
def test_from_hf_without_its_folder(tmp_path, monkeypatch, path, says):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        compose(["+model=from_hf", *([f"model.path={path}"] if path else [])])


def test_from_hf_names_what_is_wrong_in_the_file(tmp_path):
    folder = hf_folder(tmp_path / "gpt", model_type="gpt2")
    with pytest.raises(UserError, match="gpt2"):
        compose(["+model=from_hf", f"model.path={folder}"])


def test_from_hf_without_sizes_is_cut_as_the_paper_cut(tmp_path):
    sizes = dict(num_hidden_layers=50, intermediate_size=14336, hidden_size=4096, num_attention_heads=32)
    folder = hf_folder(tmp_path / "large", num_key_value_heads=8, **sizes)
    student = checks.student(compose(["+model=from_hf", f"model.path={folder}"]))
    paper = compose(["+model=bielik11b", "experiment=minitron_7b"]).prune
    assert (student.num_layers, student.ffn_hidden_size) == (paper.num_layers, paper.ffn_hidden_size)


@pytest.mark.parametrize(("layers", "ffn", "stages"), [(1, 192, 1), (2, 64, 1), (3, 4864, 1), (28, 18944, 4), (30, 1536, 2)])
def test_a_student_of_any_teacher_is_smaller_and_divides(tmp_path, layers, ffn, stages):
    folder = hf_folder(tmp_path / "mine", num_hidden_layers=layers, intermediate_size=ffn)
    split = [f"platform.pipeline_parallel={stages}", f"platform.devices={stages}"]
    cfg = compose(["+model=from_hf", f"model.path={folder}", *split])
    student = checks.student(cfg)
    assert student.num_layers % stages == student.ffn_hidden_size % 64 == 0
    assert student.num_layers >= layers / 2 and student.ffn_hidden_size >= ffn / 2
