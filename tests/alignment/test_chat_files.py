"""What alignment leaves in the files of a model: ChatML where it is asked for, and every token that ends a turn."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))  # its templates.py
import templates

from nemo_plugins.alignment import chat_files
from nemo_plugins.data.chat.template import ChatTemplate

TURNS = [{"role": "user", "content": "Ile?"}, {"role": "assistant", "content": "Dwa."}]


@pytest.fixture
def folder(tmp_path):
    """The files of a model with a byte-level tokenizer and Llama 3's template."""
    templates.styled(templates.byte_level(), "llama3").save_pretrained(tmp_path)
    return tmp_path


def test_chatml_takes_the_place_of_a_template_with_the_tokens_that_it_needs(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before = len(tokenizer)
    chat_files.write_chatml(tokenizer, folder)
    written = AutoTokenizer.from_pretrained(folder)
    assert written.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"]) == [before, before + 1] and len(written) == before + 2
    assert written.convert_tokens_to_ids("<|eot_id|>") < before
    template = ChatTemplate(written)
    assert template.end == before + 1 and written.decode(template.ids(TURNS)).startswith("<s><|im_start|>user\nIle?<|im_end|>")


def test_chatml_leaves_a_tokenizer_that_has_its_tokens_as_it_is(tmp_path):
    shutil.copytree(templates.TINY, tmp_path / "model")
    before = AutoTokenizer.from_pretrained(tmp_path / "model")
    chat_files.write_chatml(AutoTokenizer.from_pretrained(tmp_path / "model"), tmp_path / "model")
    after = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert before.get_vocab() == after.get_vocab() and before.apply_chat_template(TURNS) == after.apply_chat_template(TURNS)


@pytest.mark.parametrize(("given", "kept"), [(None, ["</s>"]), (7, [7]), ([7, 9], [7, 9])])
def test_what_ends_a_turn_joins_what_stops_a_generation(folder, given, kept):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template, file = ChatTemplate(tokenizer), folder / "generation_config.json"
    if given is not None:
        file.write_text(json.dumps({"eos_token_id": given, "temperature": 0.6}))
    chat_files.stop_at(folder, template)
    kept = [tokenizer.convert_tokens_to_ids(one) if isinstance(one, str) else one for one in kept]
    written = json.loads(file.read_text())
    assert written["eos_token_id"] == [*kept, tokenizer.convert_tokens_to_ids("<|eot_id|>")]
    assert written.get("temperature") == (0.6 if given else None)


def test_a_model_that_stops_there_already_keeps_its_file(tmp_path):
    shutil.copytree(templates.TINY, tmp_path / "model")
    before = (tmp_path / "model" / "generation_config.json").read_bytes()
    chat_files.stop_at(tmp_path / "model", ChatTemplate(AutoTokenizer.from_pretrained(tmp_path / "model")))
    assert (tmp_path / "model" / "generation_config.json").read_bytes() == before
