"""Data that were edited are read again: an edit of the same length in the middle, and tokens under the name of others."""

import json
import os

import numpy as np
import pytest
from megatron.core.datasets.indexed_dataset import IndexedDataset

from nemo_plugins.configs.schema import DataConfig
from nemo_plugins.data import text
from nemo_plugins.data.chat import sets
from nemo_plugins.data.chat.template import ChatTemplate

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

NUMBER, TAKEN_OUT = "44051401458", "[PESEL]____"


def edit(path):
    """Take the number out: as many bytes as before, and the time stamp of before."""
    stat, content = path.stat(), path.read_bytes()
    assert 1 << 20 < content.index(NUMBER.encode()) < len(content) - (1 << 20)
    path.write_bytes(content.replace(NUMBER.encode(), TAKEN_OUT.encode()))
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_number_that_was_taken_out_of_a_text_is_out_of_its_tokens(tmp_path, tokenizer):
    path = tmp_path / "text.txt"
    line = "Ala ma kota. " * 1000 + "\n"
    path.write_text(line * 100 + f"PESEL {NUMBER}\n" + line * 100)

    def document():
        [made] = text.prepare([str(path)], tokenizer, tmp_path / "tokens", "data.train")
        stored = IndexedDataset(str(made.prefix))
        return tokenizer.decode(stored[100], skip_special_tokens=True)

    assert NUMBER in document()
    edit(path)
    assert NUMBER not in document() and TAKEN_OUT in document()


def test_a_number_that_was_taken_out_of_a_chat_is_out_of_its_samples(tmp_path, tokenizer):
    path, template = tmp_path / "chat.jsonl", ChatTemplate(tokenizer)
    row = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "ok"}], "note": "y" * 13_000}
    told = row | {"messages": [{"role": "user", "content": NUMBER}, {"role": "assistant", "content": "ok"}]}
    path.write_text("".join(json.dumps(one) + "\n" for one in (*[row] * 100, told, *[row] * 100)))

    def turn():
        limits = dict(key="sft.data", policy="drop", seq_length=64, learn="every")
        return tokenizer.decode(sets.dialogues([path], template, tmp_path / "cache", **limits)[100].ids)

    assert NUMBER in turn()
    edit(path)
    assert NUMBER not in turn()


@pytest.mark.nemo
def test_other_tokens_under_the_same_name_have_another_order_of_samples(tmp_path, tokenizer):
    class Tokenizer:  # NeMo's, as far as a data module asks
        def __init__(self):
            self.tokenizer = tokenizer

    from nemo_plugins.data import tokens

    heldout = tmp_path / "heldout.txt"
    heldout.write_text("Ala ma kota. " * 50)
    data = DataConfig(train=[str(tmp_path / "own")], heldout=[str(heldout)], heldout_samples=1)
    folders = []
    for count in (40, 41, 41):
        tokens.write(tmp_path / "own", [f"Ala ma {number} kotów." for number in np.arange(count)], tokenizer)
        module, _ = text.data_module(
            data, data.train, "data.train", Tokenizer(), tmp_path / "cache", text.BatchShape(16, 1, 1), seed=1
        )  # fmt: skip
        folders.append(module.index_mapping_dir)
    assert folders[0] != folders[1] == folders[2]


def test_every_text_of_a_stage_is_its_input(tmp_path):
    data = DataConfig(heldout=["h.txt"], heldout_more={"poems": "p.txt"})
    assert [path.name for path in text.sources(data, ["a.txt", "b"])] == ["a.txt", "b", "h.txt", "p.txt"]
