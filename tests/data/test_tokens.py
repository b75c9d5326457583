"""Text to tokens and back; windows of held-out text; the cache."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from nemo_plugins import runs
from nemo_plugins.data import text, tokens

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "tiny_pl"
TEXTS = ["Zażółć gęślą jaźń.", "Ala ma kota, a kot ma Alę. " * 9, "x"]


def test_documents_of_each_kind_of_file(tmp_path):
    (tmp_path / "a.txt").write_text("raz\n\ndwa\n")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": part}) + "\n" for part in ("raz", "", "dwa\ntrzy")))
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": "ą"}) + "\n")
    assert list(tokens.documents(tmp_path / "a.txt")) == ["raz", "dwa"]
    assert list(tokens.documents(tmp_path / "b.jsonl")) == ["raz", "dwa\ntrzy"]
    assert list(tokens.documents(tmp_path / "c.jsonl.gz")) == ["ą"]


def test_a_document_is_bos_text_eos(tmp_path, tokenizer):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    made = tokens.write(tmp_path / "t", TEXTS, tokenizer)
    stored = IndexedDataset(str(tmp_path / "t"))
    for index, document in enumerate(TEXTS):
        ids = stored[index].tolist()
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        assert tokenizer.decode(ids, skip_special_tokens=True) == document
    assert (made.documents, made.tokens) == (3, sum(len(stored[index]) for index in range(3)))
    assert tokens.existing(tmp_path / "t") == made


@pytest.mark.nemo
def test_windows_are_the_text_cut_in_pieces(tmp_path, tokenizer):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    from nemo_plugins.data.module import Windows

    tokens.write(tmp_path / "t", TEXTS, tokenizer)
    stored = IndexedDataset(str(tmp_path / "t"))
    whole = torch.cat([torch.from_numpy(stored[index].astype("int64")) for index in range(3)])
    windows = Windows(str(tmp_path / "t"), 7)
    assert len(windows) == (len(whole) - 1) // 7 > 5
    for index in range(len(windows)):
        item = windows[index]
        assert torch.equal(item["tokens"], whole[7 * index : 7 * index + 7])
        assert torch.equal(item["labels"], whole[7 * index + 1 : 7 * index + 8])


def test_the_cache_is_used_until_text_or_tokenizer_changes(tmp_path, tokenizer):
    first = tokens.cached(tmp_path, "t", TEXTS, tokenizer, "content 1")
    stamp = Path(f"{first.prefix}.bin").stat().st_mtime_ns
    assert tokens.cached(tmp_path, "t", iter(()), tokenizer, "content 1") == first
    assert Path(f"{first.prefix}.bin").stat().st_mtime_ns == stamp
    assert tokens.cached(tmp_path, "t", TEXTS[:1], tokenizer, "content 2").documents == 1
    other = AutoTokenizer.from_pretrained(BUNDLED)
    other.add_tokens(["kota"])
    assert tokens.cached(tmp_path, "t", TEXTS, other, "content 1").prefix != first.prefix
    for otherwise in ({"eos_token": "<|im_end|>"}, {"split_special_tokens": True}):  # of the same tokenizer.json
        same_file = AutoTokenizer.from_pretrained(BUNDLED, **otherwise)
        assert tokens.cached(tmp_path, "t", TEXTS, same_file, "content 1").prefix != first.prefix


def test_a_pair_of_no_document_is_counted(tmp_path, tokenizer):
    tokens.write(tmp_path / "none", iter(()), tokenizer)
    assert tokens.existing(tmp_path / "none") == tokens.Tokens(tmp_path / "none", 0, 0)


def test_a_half_written_cache_is_made_again(tmp_path, tokenizer):
    made = tokens.cached(tmp_path, "t", TEXTS, tokenizer, "content")
    folder = made.prefix.parent
    folder.rename(folder.with_suffix(".partial"))
    assert tokens.cached(tmp_path, "t", TEXTS, tokenizer, "content") == made


def test_a_blend_weighs_by_tokens():
    sources = [tokens.Tokens(Path("a"), 1, 300), tokens.Tokens(Path("b"), 1, 100)]
    assert text.blend(sources[:1], None) == ["a"]
    assert text.blend(sources, None) == ["300.0", "a", "100.0", "b"]
    assert text.blend(sources, [1.0, 2.0]) == ["1.0", "a", "2.0", "b"]


def test_heldout_text_shorter_than_a_batch_is_refused():
    assert text.whole_batches(tokens=1025, seq_length=64, global_batch_size=8, samples=16) == 2
    assert text.whole_batches(tokens=1024, seq_length=64, global_batch_size=8, samples=16) == 1
    with pytest.raises(runs.UserError, match="at least one global batch, 8 x 64"):
        text.whole_batches(tokens=512, seq_length=64, global_batch_size=8, samples=16)


@pytest.mark.nemo
def test_the_end_of_a_document_is_seen_and_learnt(tmp_path, tokenizer):
    """PAD is EOS in Bielik's and the bundled tokenizer: Megatron's own dataset would hide every end of a document."""
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from nemo.collections.common.tokenizers import AutoTokenizer as NemoTokenizer

    from nemo_plugins.data.module import WholeTextDataset

    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    prefix = tokens.write(tmp_path / "t", TEXTS * 4, tokenizer).prefix

    def samples(kind):
        config = GPTDatasetConfig(
            random_seed=1,
            sequence_length=16,
            blend_per_split=[([str(prefix)], None), None, None],
            tokenizer=NemoTokenizer(str(BUNDLED)),
            path_to_cache=str(tmp_path / "index"),
            reset_position_ids=False,
            reset_attention_mask=False,
            eod_mask_loss=False,
            create_attention_mask=True,
        )
        built = BlendedMegatronDatasetBuilder(kind, [12, None, None], lambda: True, config).build()[0]
        return [built[index] for index in range(12)]

    eos = tokenizer.eos_token_id
    whole, megatrons = samples(WholeTextDataset), samples(GPTDataset)
    assert sum(int((item["tokens"] == eos).sum()) for item in whole) > 3
    assert all((item["loss_mask"] == 1).all() for item in whole)
    assert not any((item["tokens"] == eos).any() for item in megatrons), "Megatron has mended this: drop WholeTextDataset"
