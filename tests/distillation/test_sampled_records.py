"""A teacher recorded in draws: what was drawn comes back from fewer bits, whatever it is, and only to those who ask for it."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from nemo_plugins.distillation.record_rows import SampledRows
from nemo_plugins.distillation.records import Reader, Recorded, Writer
from nemo_plugins.distillation.sampled import sampled_record, uniforms
from nemo_plugins.runs import Failed, UserError

N, S, DRAWS, V, SHARD = 7, 6, 9, 50, 3  # the last of three files holds one sample
HEADER = Recorded("abc", "tok", ["t1"], 5, 1, S, N, 1.0, None, V, "bf16-mixed", {"megatron-core": "0.15.3"}, draws=DRAWS)


@pytest.fixture(scope="module")
def teacher():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(S, N, V, generator=generator) * 2, torch.randint(0, V, (N, S), generator=generator)


def samples_of(teacher, at):
    logits, tokens = teacher
    numbers = torch.stack([uniforms(HEADER.seed, i, S, DRAWS) for i in at], 1)
    indices, entropy = sampled_record(logits[:, at.start : at.stop], numbers)
    parts = {"indices": indices, "entropy": entropy}
    return {name: x.transpose(0, 1) for name, x in parts.items()} | {"tokens": tokens[at.start : at.stop]}


@pytest.fixture
def whole(tmp_path, teacher):
    writer = Writer(tmp_path / "record", HEADER, SHARD)
    for at in writer.missing():
        writer.write(at.start, samples_of(teacher, at))
    return tmp_path / "record"


@pytest.fixture(scope="module")
def packed_file(tmp_path_factory):
    return tmp_path_factory.mktemp("rows") / "rows.safetensors"


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_draws_come_back_from_no_more_bytes_than_planned(packed_file, data):
    vocabulary = data.draw(st.sampled_from([1, 2, 3, 50, 32_128, 32_768, 32_769, 131_072, 2**20 + 1]))
    n, s, draws = (data.draw(st.integers(1, most)) for most in (4, 5, 40))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    among = data.draw(st.sampled_from([1, 4, vocabulary]))  # few tokens many times, or many once
    tokens = torch.randint(0, vocabulary, (among,), generator=generator, dtype=torch.int32)
    indices = tokens[torch.randint(0, among, (n, s, 1 + draws), generator=generator)]
    entropy = torch.rand(n, s, generator=generator) * math.log(vocabulary)
    rows = SampledRows(draws, vocabulary)
    tensors = rows.pack({"indices": indices, "entropy": entropy})
    assert set(tensors) == set(rows.tensors)
    size = sum(tensor.nbytes for tensor in tensors.values())
    starts = 8 * (n + 1)
    assert n * rows.least_bytes(s) + starts <= size <= n * s * rows.bytes_per_token() + starts + n
    save_file(tensors, packed_file)
    with safe_open(packed_file, framework="pt") as file:
        for i in range(n):
            found = rows.unpack(file, i)
            assert (found["indices"].dtype, found["entropy"].dtype) == (torch.int32, torch.float32)
            assert found["indices"][:, 0].equal(indices[i, :, 0])
            assert found["indices"][:, 1:].sort().values.equal(indices[i, :, 1:].sort().values)
            torch.testing.assert_close(found["entropy"], entropy[i], rtol=0, atol=0.51 * rows.step)


def test_bits_of_an_id_and_bytes_of_a_token_are_those_of_the_vocabulary():
    assert [SampledRows(32, v).bits for v in (2, 32_768, 32_769, 131_072)] == [1, 15, 16, 17]
    for vocabulary, least in ((32_128, 15), (131_072, 17)):
        rows, tokens = SampledRows(32, vocabulary), 65_500_000_000
        assert rows.least_bytes(8) == 8 * (4 + 2) + least  # every draw is the most likely token
        assert rows.bytes_per_token() * tokens < 5e12


def test_files_give_what_was_drawn_after_a_kill_too(whole, teacher):
    """A recording that goes on draws the same tokens: the lost file comes back to the byte."""
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    (whole / "shard-00000003.safetensors").unlink()
    writer = Writer(whole, HEADER)
    [missing] = writer.missing()
    writer.write(missing.start, samples_of(teacher, missing))
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before
    reader = Reader(whole, HEADER)
    for i in (0, 6, 4):
        want = samples_of(teacher, range(i, i + 1))
        found = reader.sample(i, teacher[1][i])
        assert found["indices"].sort().values.equal(want["indices"][0].sort().values)
        torch.testing.assert_close(found["entropy"], want["entropy"][0], rtol=0, atol=0.51 * HEADER.rows.step)
    assert writer.bytes_per_token() == sum(len(before[name]) for name in before if name != "record.json") / (N * S)


def test_a_changed_byte_or_a_cut_file_is_refused(whole, teacher):
    path = whole / "shard-00000006.safetensors"
    good = path.read_bytes()
    for byte in range(len(good) - S * 4, len(good), 5):
        path.write_bytes(good[:byte] + bytes([good[byte] ^ 4]) + good[byte + 1 :])
        with pytest.raises(UserError, match="shard-00000006.safetensors is damaged"):
            Reader(whole, HEADER).sample(6, teacher[1][6])
    path.write_bytes(good[:20])
    with pytest.raises(UserError, match="shard-00000006.safetensors is damaged"):
        Reader(whole, HEADER)


def test_draws_and_the_most_likely_tokens_are_not_taken_for_each_other(whole):
    top_k = dataclasses.replace(HEADER, top_k=4, draws=None)
    for take in (Reader, Writer):
        with pytest.raises(UserError) as error:
            take(whole, top_k)
        assert "top_k: None there, 4 asked for (distill.loss.top_k)" in str(error.value)
        assert f"draws: {DRAWS} there, None asked for (distill.loss.draws)" in str(error.value)


def test_what_is_no_draw_is_not_written(tmp_path, teacher):
    writer, good = Writer(tmp_path, HEADER, SHARD), samples_of(teacher, range(3, 6))
    nan = good["entropy"].clone()
    nan[1, 2] = math.nan
    for change, error, says in [
        ({"indices": good["indices"] + V}, ValueError, "expected indices from 0 to 49"),
        ({"indices": good["indices"][..., 1:]}, ValueError, "for the samples from 3"),
        ({"entropy": good["entropy"].double()}, ValueError, "expected float32, got entropy in torch.float64"),
        ({"entropy": nan}, Failed, "sample 4 of the training order"),
    ]:
        with pytest.raises(error, match=says):
            writer.write(3, good | change)
