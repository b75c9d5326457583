"""Random weights of a model's shapes: a folder like any other, the same for the same seed, that says what it is."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemo_plugins.models import hf_config, nemo, random_weights
from nemo_plugins.planning import convert_plan, hf_folder, publish_plan
from nemo_plugins.reporting import model_card
from nemo_plugins.reporting.lineage import Lineage
from nemo_plugins.runs import UserError
from nemo_plugins.runs.prepare import compose

SMALL = ("model.num_layers=2", "model.hidden_size=64", "model.ffn_hidden_size=128", "model.num_attention_heads=4",
         "model.num_query_groups=2", "model.head_dim=16", "model.path=not/fetched")  # fmt: skip


def config(model="bielik11b", *overrides):
    return compose([f"+model={model}", "convert.random=true", *SMALL, *overrides])


def written(folder, *overrides, model="bielik11b"):
    return random_weights.write(config(model, *overrides), folder)


def tensors(folder):
    return {key: value for file in sorted(folder.glob("*.safetensors")) for key, value in load_file(file).items()}


@pytest.mark.parametrize("model", ["bielik11b", "llama31_8b"])
def test_it_is_the_configured_model_and_loads_without_any_download(tmp_path, model):
    cfg = config(model)
    folder = written(tmp_path / "hf", model=model)
    whole = hf_folder.read(folder, "convert.source", pad_vocabulary=True)
    assert whole.architecture == hf_folder.Architecture.from_config(cfg.model) and whole.dtype == "BF16"
    assert hf_config.rope_scaling(whole.config) == (dict(cfg.model.rope_scaling) if cfg.model.rope_scaling else None)
    ids = AutoTokenizer.from_pretrained(folder)("Ala ma kota", return_tensors="pt").input_ids
    logits = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
    assert logits.shape[-1] == cfg.model.vocab_size and logits.isfinite().all()
    drawn = tensors(folder)
    assert all(torch.equal(value, torch.ones_like(value)) for key, value in drawn.items() if "norm" in key)
    deviations = [value.float().std().item() for key, value in drawn.items() if "norm" not in key]
    assert deviations == pytest.approx([cfg.model.init_std] * len(deviations), rel=0.05)


def test_the_seed_decides_and_not_the_files_that_they_are_cut_into(tmp_path, monkeypatch):
    one = tensors(written(tmp_path / "one"))
    other = tensors(written(tmp_path / "other", "run.seed=5"))
    monkeypatch.setattr(random_weights, "SHARD", 300_000)
    cut = written(tmp_path / "cut")
    assert len(list(cut.glob("*.safetensors"))) > 2
    assert hf_folder.read(cut, "convert.source", pad_vocabulary=True).tensors.keys() == one.keys()
    again = tensors(cut)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not any(torch.equal(one[key], other[key]) for key in one if "norm" not in key)


def test_a_description_of_read_only_files_can_be_completed(tmp_path):
    source = tmp_path / "store" / "config.json"
    source.parent.mkdir()
    source.write_text("{}")
    source.chmod(0o444)
    nemo.copy_description(source.parent, tmp_path / "model")
    copied = tmp_path / "model" / "config.json"
    assert copied.read_text() == "{}" and copied.stat().st_mode & 0o200


def test_a_model_with_a_smaller_vocabulary_than_the_stand_in_is_refused():
    with pytest.raises(UserError, match=r"makes 4,096 ids, model.vocab_size is 512"):
        convert_plan.plan(config("bielik11b", "model.vocab_size=512"))
    for given in ("convert.source=assets/tiny_pl", "convert.tokenizer=assets/tiny_pl"):
        with pytest.raises(UserError, match="are both given"):
            convert_plan.plan(config("bielik11b", given))


def test_its_card_says_so_and_it_is_not_published(tmp_path):
    folder = written(tmp_path / "hf", "run.seed=7")
    front = model_card.Front("mine")
    said = model_card.text(config(), Lineage(tmp_path, {}), [], folder, front)
    assert "**Made of random weights (seed 7), which nobody has trained" in said
    cfg = compose(["+model=bielik11b", *SMALL, f"export.source={folder}", "export.pad_vocabulary=true",
                   "publish.repository=me/mine", "publish.licence=mit"])  # fmt: skip
    with pytest.raises(UserError, match=r"made of random weights \(seed 7\)"):
        publish_plan.plan(cfg)
    config_json = folder / "config.json"
    values = json.loads(config_json.read_text())
    assert values.pop(hf_config.RANDOM) == 7
    config_json.write_text(json.dumps(values))
    assert publish_plan.plan(cfg).title.startswith("publish me/mine")
    assert "random weights" not in model_card.text(config(), Lineage(tmp_path, {}), [], folder, front)
