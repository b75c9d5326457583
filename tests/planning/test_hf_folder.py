"""A folder that is another model's, half another's or code is refused before anything is written, by what is wrong with it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nemo_plugins.planning import hf_folder
from nemo_plugins.runs import UserError

TINY = Path(__file__).resolve().parents[2] / "assets" / "tiny_pl"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def edit(folder, name, **values):
    content = json.loads((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps(content))


def reweigh(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_a_whole_folder_is_read_tensor_by_tensor(folder):
    read = hf_folder.read(folder, "export.source")
    assert (read.tokens, read.dtype, len(read.tensors)) == (4096, "BF16", 3 + 8 * 9)
    stored = load_file(folder / "model.safetensors")
    for name, tensor in read.tensors.items():
        content = tensor.shard.read_bytes()[tensor.start : tensor.stop]
        assert content == stored[name].view(-1).view(torch.uint8).numpy().tobytes()


BIAS = "model.layers.0.mlp.gate_proj.bias"


def add_a_bias(tensors):
    tensors[BIAS] = tensors["model.norm.weight"].clone()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: reweigh(f, add_a_bias), f"a tensor that no Mistral has: {BIAS}"),
        (lambda f: reweigh(f, lambda t: t.pop("model.layers.7.mlp.up_proj.weight")), "lacks model.layers.7.mlp.up_proj.weight"),
        (lambda f: edit(f, "config.json", head_dim=64), "config.json says [512, 256] (head_dim 64"),
        (lambda f: edit(f, "config.json", num_hidden_layers=9), "lacks model.layers.8."),
        (lambda f: edit(f, "config.json", model_type="gemma"), "model_type is 'gemma'"),
        (lambda f: edit(f, "config.json", auto_map={"AutoConfig": "evil.Config"}), "names code to run (auto_map)"),
        (lambda f: edit(f, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T"]}), "names code to run (auto_map)"),
        (lambda f: edit(f, "config.json", quantization_config={"quant_method": "fp8"}), "is quantised already"),
        (lambda f: (f / "config.json").write_text('{"model_type": "mis'), "cannot be read"),
        (lambda f: (f / "tokenizer.json").write_text('{"model": {}}'), "holds no vocabulary"),
        (lambda f: (f / "model.safetensors").write_bytes((TINY / "model.safetensors").read_bytes()[:-5]), "as its header says"),
        (lambda f: (f / "model.safetensors").write_bytes(b"GGUF" * 100), "not a whole safetensors file"),
        (lambda f: (f / "tokenizer.json").unlink() or (f / "tokenizer.model").unlink(), "has no tokenizer"),
    ],
)  # fmt: skip
def test_a_folder_that_does_not_hold_together_is_refused(folder, spoil, says):
    spoil(folder)
    with pytest.raises(UserError) as refused:
        hf_folder.read(folder, "export.source")
    assert says in str(refused.value) and str(refused.value).startswith("export.source: ")


def widen(folder, rows):
    edit(folder, "config.json", vocab_size=rows)

    def change(tensors):
        for name in (hf_folder.EMBEDDING, hf_folder.OUTPUT):
            tensors[name] = tensors[name][:1].repeat(rows, 1)

    reweigh(folder, change)


def test_a_vocabulary_larger_than_the_tokenizer_is_refused_and_named_on_request(folder):
    widen(folder, 4224)
    with pytest.raises(UserError, match="4224 rows, 4096 tokens") as refused:
        hf_folder.read(folder, "export")
    assert "export.pad_vocabulary=true calls them [PAD4096] to [PAD4223]" in str(refused.value)
    assert hf_folder.read(folder, "export", pad_vocabulary=True).architecture.vocab_size == 4224


def test_a_tokenizer_larger_than_the_vocabulary_is_always_refused(folder):
    widen(folder, 4000)
    with pytest.raises(UserError, match="makes ids up to 4095, the embedding has 4000 rows"):
        hf_folder.read(folder, "export", pad_vocabulary=True)


def test_a_sentencepiece_model_alone_is_counted_with_its_added_tokens(folder):
    (folder / "tokenizer.json").unlink()
    assert hf_folder.vocabulary(folder, "export") == 4094
    (folder / "added_tokens.json").write_text('{"<|im_start|>": 4094, "<|im_end|>": 4095}')
    assert hf_folder.vocabulary(folder, "export") == 4096


def sharded(folder):
    """The bundled model in two shards with an index, and a copy of it all in a file that the index does not name."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    names = sorted(tensors)
    places = {name: f"model-0000{1 + 2 * number // len(names)}-of-00002.safetensors" for number, name in enumerate(names)}
    for shard in sorted(set(places.values())):
        save_file({name: tensors[name] for name in names if places[name] == shard}, folder / shard, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return places


def test_the_index_decides_what_is_counted_published_and_told_apart(folder):
    from nemo_plugins.evaluation import identity
    from nemo_plugins.planning import publish_plan
    from nemo_plugins.runs.prepare import compose

    places = sharded(folder)
    stored = hf_folder.stored(folder, "k")
    assert {name: tensor.shard.name for name, tensor in stored.items()} == places
    assert identity.parameters(folder) == 9_965_824
    assert identity.size(folder) == sum((folder / name).stat().st_size for name in set(places.values()))
    words = [f"export.source={folder}", "publish.repository=me/x", "publish.licence=apache-2.0", f"run.root={folder / 'runs'}"]
    rows = dict(publish_plan.plan(compose(["+model=tiny_pl", *words])).tables[-1].rows)
    assert rows["weights"] == publish_plan.gib(identity.size(folder))


def test_a_tensor_that_the_index_has_elsewhere_is_not_there(folder):
    places = sharded(folder)
    lost, kept = "lm_head.weight", "model.norm.weight"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places | {lost: places[kept]}}))
    with pytest.raises(UserError, match=f"lacks {lost}"):
        hf_folder.read(folder, "k")
