"""Packed windows: full, every dialogue once, none sees another, and the loss is that of the dialogues alone."""

import json
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from nemo_plugins.data.chat import packing, sets
from nemo_plugins.data.chat.dataset import DialogueWindows
from nemo_plugins.data.chat.encode import Sample
from nemo_plugins.data.chat.pairs import Pairs
from nemo_plugins.runs.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = REPOSITORY / "assets" / "chat_samples"
LENGTH = 128


@pytest.fixture(scope="module")
def samples(template, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    common = dict(key="sft.data", policy="drop", seq_length=LENGTH, learn="every")
    return sets.dialogues([SAMPLES / "sft_heldout.jsonl.gz"], template, cache, **common)


@pytest.fixture(scope="module")
def pairs(template, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return sets.pairs(
        [SAMPLES / "preferences_train.jsonl.gz"], template, cache, key="dpo.data", policy="drop", seq_length=LENGTH
    )


def test_a_realistic_mix_fills_its_windows():
    """Lengths of a log-normal law around 500 tokens, a few near the window's own: 99 % of 32,768 places and more."""
    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(6.2, 1.1, 60_000), 8, 32_768).astype(np.int64)
    lengths[:30] = random.integers(16_000, 32_768, 30)
    windows = packing.pack(lengths, 32_768, seed=1)
    assert packing.fill(lengths, windows, 32_768) >= 0.99
    assert np.array_equal(np.sort(np.concatenate(windows)), np.arange(len(lengths)))
    assert max(lengths[window].sum() for window in windows) <= 32_768
    again = packing.pack(lengths, 32_768, seed=1)
    assert all(np.array_equal(one, two) for one, two in zip(windows, again, strict=True))


def test_a_window_holds_whole_dialogues(samples, template):
    windows = DialogueWindows(samples, LENGTH, template.pad, seed=1)
    item, taken = windows[0], windows.windows[0]
    at = 0
    for index in taken:
        sample = samples[int(index)]
        span = slice(at, at + sample.positions)
        assert item["tokens"][span].tolist() == sample.ids[:-1].tolist()
        assert item["labels"][span].tolist() == sample.ids[1:].tolist()
        assert item["loss_mask"][span].bool().tolist() == sample.learned[1:].tolist()
        assert item["position_ids"][span].tolist() == list(range(sample.positions))
        at = span.stop
    assert not item["loss_mask"][at:].any()
    lengths = [samples[int(index)].positions for index in taken]
    numbers = np.repeat([*range(len(taken)), packing.PADDING], [*lengths, LENGTH - sum(lengths)])
    assert item["attention_mask"].tolist() == numbers.tolist()


def test_weights_of_dialogues_are_in_the_loss_mask():
    """Two dialogues of weight 1 and ¼; the token that only predicts has none, nor has the padding."""
    one, two = (Sample(np.arange(4), np.array([0, 0, 1, 1], bool), weight) for weight in (1.0, 0.25))
    made = packing.window([one, two], 8, pad=9)
    assert made["loss_mask"].tolist() == [0, 1, 1, 0, 0.25, 0.25, 0, 0]
    assert made["tokens"].tolist() == [0, 1, 2, 0, 1, 2, 9, 9] and made["labels"].tolist() == [1, 2, 3, 1, 2, 3, 9, 9]
    assert made["position_ids"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    with pytest.raises(ValueError, match="at most 5 places together, got 6"):
        packing.window([one, two], 5, pad=9)


def test_thd_says_where_each_dialogue_ends(samples, template):
    dense, thd = (DialogueWindows(samples, LENGTH, template.pad, seed=1, thd=thd) for thd in (False, True))
    item = thd[0]
    ends = item["cu_seqlens"][: item["cu_seqlens_argmin"]]
    wanted = np.cumsum([0, *(samples[int(i)].positions for i in thd.windows[0])])
    assert ends[: len(wanted)].tolist() == wanted.tolist() and ends[-1] == LENGTH
    assert item["max_seqlen"] == torch.diff(ends).max() and "attention_mask" not in item
    assert len({len(thd[i]["cu_seqlens"]) for i in range(len(thd))}) == 1  # a batch can be stacked
    assert torch.equal(item["tokens"], dense[0]["tokens"])


def test_the_windows_of_a_thd_micro_batch_are_one_row(samples, template):
    """As one window that holds the dialogues of all of them: no place is lost, none begins anywhere else."""
    thd = DialogueWindows(samples, LENGTH, template.pad, seed=1, thd=True)
    items = [thd[place] for place in range(3)]
    for count in (1, 3):
        made = thd.collate_fn(items[:count])
        for name in ("tokens", "labels", "position_ids", "loss_mask"):
            assert made[name].shape == (1, count * LENGTH)
            assert torch.equal(made[name].view(count, LENGTH), torch.stack([item[name] for item in items[:count]]))
        ends = made["cu_seqlens"][0, : made["cu_seqlens_argmin"].item()]
        begins = torch.cat([torch.zeros(1), (made["position_ids"][0] == 0).nonzero()[1:, 0], torch.tensor([count * LENGTH])])
        assert torch.equal(ends, begins.int()) and made["max_seqlen"].item() == torch.diff(ends).max()
    alone, stacked = thd.collate_fn(items[:1]), default_collate(items[:1])
    assert alone.keys() == stacked.keys() and all(torch.equal(alone[name], stacked[name]) for name in alone)


def test_too_long_and_unlearnable_rows_are_counted_and_the_rest_is_kept(template, tmp_path):
    source = [SAMPLES / "sft_heldout.jsonl.gz"]
    common = dict(key="sft.data", seq_length=24, learn="every")
    made = sets.dialogues(source, template, tmp_path, policy="drop", **common)
    assert made.report["faults"]["too_long"] + len(made) == 420 and made.positions.max() <= 24
    with pytest.raises(UserError, match="sft.data: .* rows cannot be used(?s:.)*too_long"):
        sets.dialogues(source, template, tmp_path, policy="error", **common)


def test_pairs_say_whether_prompt_or_answer_was_too_long(template, tmp_path):
    file = tmp_path / "a.jsonl"
    rows = [("słowo " * 60, "4", "5"), ("Ile?", "4", "słowo " * 8 + "\n" + "słowo " * 60), ("Ile?", "4", "5")]
    lines = [{"messages": [{"role": "user", "content": ask}], "chosen": yes, "rejected": no} for ask, yes, no in rows]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = sets.pairs([file], template, tmp_path / "cache", key="dpo.data", policy="drop", seq_length=48)
    assert len(made) == 2 and made.report["faults"] == {"prompt_too_long": 1, "too_long": 1}


def test_pairs_of_like_length_are_together_and_none_is_lost(pairs, template):
    data = Pairs(pairs, template.pad)
    order = data.by_length(32)(np.random.default_rng(1))
    assert np.array_equal(np.sort(order), np.arange(len(data)))
    shuffled = np.random.default_rng(1).permutation(len(data))
    assert data.padding(8, order) < 0.6 * data.padding(8, shuffled)
    micro = data.collate_fn([data[int(i)] for i in order[:8]])
    assert micro["tokens"].shape[1] == 2 and micro["tokens"].shape[2] % 8 == 0
    for row, index in enumerate(order[:8]):
        for side in (0, 1):
            sample = pairs[2 * int(index) + side]
            assert micro["tokens"][row, side, : sample.positions].tolist() == sample.ids[:-1].tolist()
            assert int(micro["loss_mask"][row, side].sum()) == int(sample.learned.sum())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small GPT of Megatron's own layers."""
    from megatron.core import parallel_state
    from torch import distributed

    from nemo_plugins import platforms

    platforms.prepare()
    store = distributed.FileStore(str(tmp_path_factory.mktemp("store") / "file"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    with mock.patch.dict(os.environ):  # Megatron leaves its choice of attention there, for whatever starts after it
        from megatron.core.models.gpt import GPTModel
        from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
        from megatron.core.transformer.transformer_config import TransformerConfig

        torch.manual_seed(0)
        config = TransformerConfig(num_layers=2, hidden_size=32, num_attention_heads=4, use_cpu_initialization=True)
        spec = get_gpt_layer_local_spec(normalization="RMSNorm")
        yield GPTModel(config, spec, 4096, LENGTH, position_embedding_type="rope").eval()
    parallel_state.destroy_model_parallel()
    distributed.destroy_process_group()


def losses(model, item) -> torch.Tensor:
    """−log p of each label of a window, `[s]`."""
    return model(item["tokens"][None], item["position_ids"][None], item["attention_mask"][None], labels=item["labels"][None])[0]


@pytest.mark.nemo
@pytest.mark.parametrize("length", [LENGTH, 4096])
def test_packed_dialogues_have_the_loss_and_gradients_of_each_alone(model, samples, template, length):
    windows = DialogueWindows(samples, length, template.pad, seed=1)
    alone = DialogueWindows(samples, LENGTH, template.pad, seed=1, packed=False)
    for place in range(min(3, len(windows))):
        assert windows[place]["tokens"].shape == (length,) and len(windows.windows[place]) > 1
        found = []
        for items in ([windows[place]], [alone[int(index)] for index in windows.windows[place]]):
            model.zero_grad()
            total = 0.0
            for item in items:
                loss = (losses(model, item) * item["loss_mask"]).sum()
                loss.backward()
                total += float(loss)
            found.append((total, [parameter.grad.clone() for parameter in model.parameters()]))
        (packed, gradients), (each, wanted) = found
        assert packed == pytest.approx(each, rel=1e-6)
        for ours, theirs in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.nemo
def test_a_change_in_one_dialogue_changes_no_other_loss(model, samples, template):
    windows = DialogueWindows(samples, LENGTH, template.pad, seed=1)
    item, taken = windows[0], windows.windows[0]
    ends = np.cumsum([0, *(samples[int(index)].positions for index in taken)])
    changed = {**item, "tokens": item["tokens"].clone()}
    changed["tokens"][ends[1] : ends[2]] = (item["tokens"][ends[1] : ends[2]] + 7) % 4000
    with torch.no_grad():
        before, after = losses(model, item), losses(model, changed)
    assert torch.equal(before[: ends[1]], after[: ends[1]]) and torch.equal(before[ends[2] :], after[ends[2] :])
    assert not torch.equal(before[ends[1] : ends[2]], after[ends[1] : ends[2]])
