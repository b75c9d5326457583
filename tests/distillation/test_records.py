"""A recorded teacher gives the very loss of one that is there, and a record of anything else is refused."""

import dataclasses
import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nemo_plugins.distillation import records
from nemo_plugins.distillation.losses import kd_loss, kd_loss_cached, topk_record
from nemo_plugins.distillation.record_rows import TopKRows
from nemo_plugins.distillation.records import Reader, Recorded, Writer
from nemo_plugins.runs import Failed, UserError

REPOSITORY = Path(__file__).resolve().parents[2]
N, S, K, V, SHARD, T = 10, 6, 4, 50, 3, 2.0  # the last of four files holds one sample
STARTS = [0, 3, 6, 9]
VERSIONS = {"megatron-core": "0.15.3", "nemo-toolkit": "2.7.3", "torch": "2.9.0"}
HEADER = Recorded("abc", "tok", ["t1", "t2"], 5, 1, S, N, T, K, V, "bf16-mixed", VERSIONS)


@pytest.fixture(scope="module")
def given():
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(S, N, V, generator=generator) * 4 for _ in range(2))
    return teacher, student, torch.randint(0, V, (N, S), generator=generator)


def samples_of(given, at, k=K):
    """What the recording pass has after the teacher: Megatron's [s, b, …] with the samples in front."""
    teacher, _, tokens = given
    indices, logprobs, tail = topk_record(teacher[:, at.start : at.stop], k, temperature=T)
    parts = {"indices": indices, "logprobs": logprobs, "tail": tail}
    return {name: x.transpose(0, 1) for name, x in parts.items()} | {"tokens": tokens[at.start : at.stop]}


@pytest.fixture
def whole(tmp_path, given):
    writer = Writer(tmp_path / "record", HEADER, SHARD)
    for at in writer.missing():
        writer.write(at.start, samples_of(given, at))
    return tmp_path / "record"


def shard(folder, first):
    return folder / f"shard-{first:08d}.safetensors"


def flip(path, byte, bit=0):
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


def header_bytes(path):
    return 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]


def test_files_give_what_the_teacher_gave_and_the_very_loss(whole, given):
    teacher, student, tokens = given
    reader, record = Reader(whole, HEADER), topk_record(teacher, K, temperature=T)
    assert reader.warnings == []
    found = {}
    for i in [0, 5, 1, 9, 2, 8, 3, 7, 4, 6]:  # as two interleaved ranks would ask
        found[i] = reader.sample(i, tokens[i])
        for name, want in zip(("indices", "logprobs", "tail"), record, strict=True):
            assert found[i][name].dtype is want.dtype and found[i][name].equal(want[:, i]), (name, i)
    batch = [torch.stack([found[i][name] for i in range(N)], 1) for name in ("indices", "logprobs", "tail")]
    for kind in ("forward_kl", "reverse_kl", "jsd"):
        cached = kd_loss_cached(student, *batch, kind=kind, temperature=T)
        assert cached.equal(kd_loss(student, teacher, kind=kind, temperature=T, top_k=K))


def test_samples_outlive_their_file_and_more_files_than_stay_open_can_be_read(tmp_path, given):
    """One sample a file: each file is closed again before the others have been read."""
    _, _, tokens = given
    writer = Writer(tmp_path, HEADER, 1)
    for at in writer.missing():
        writer.write(at.start, samples_of(given, at))
    reader = Reader(tmp_path, HEADER)
    kept = [reader.sample(i, tokens[i]) for i in range(N)]
    assert list(reader._open) == list(range(N))[-records.OPEN :] and records.OPEN < N
    for i in range(N):
        want = samples_of(given, range(i, i + 1))
        assert all(kept[i][name].equal(want[name][0]) for name in kept[i])
        assert reader.sample(i, tokens[i])["tail"].equal(kept[i]["tail"])


@pytest.mark.parametrize(("vocabulary", "width"), [(2**16, 2), (2**16 + 1, 4)])
def test_the_highest_index_survives_and_the_bytes_are_as_reckoned(tmp_path, vocabulary, width):
    n, s, k = 2, 3, 2
    header = dataclasses.replace(HEADER, vocabulary=vocabulary, samples=n, seq_length=s, top_k=k)
    indices = torch.full((n, s, k), vocabulary - 1, dtype=torch.int32)
    indices[..., 1] = vocabulary // 2
    logprobs, tail = torch.randn(n, s, k), torch.full((n, s), float("-inf"))
    tokens = torch.full((n, s), vocabulary - 1)
    Writer(tmp_path, header).write(0, {"indices": indices, "logprobs": logprobs, "tail": tail, "tokens": tokens})
    assert Reader(tmp_path, header).sample(1, tokens[1])["indices"].equal(indices[1])
    assert Reader(tmp_path, header).sample(0, tokens[0])["tail"].equal(tail[0])
    payload = shard(tmp_path, 0).stat().st_size - header_bytes(shard(tmp_path, 0))
    assert TopKRows(k, vocabulary).bytes_per_token() == k * width + k * 4 + 4
    assert payload == n * s * TopKRows(k, vocabulary).bytes_per_token() + n * 16


def test_the_files_are_what_the_documentation_says(whole, given):
    """Read with safetensors and hashlib alone, as another program would."""
    from safetensors import safe_open

    assert sorted(path.name for path in whole.iterdir()) == ["record.json", *(shard(whole, first).name for first in STARTS)]
    content = json.loads((whole / "record.json").read_text())
    assert content["shard"] == SHARD and Recorded(**content["recorded"]) == HEADER
    with safe_open(shard(whole, 9), framework="np") as file:
        arrays = [file.get_tensor(name) for name in ("indices", "logprobs", "tail", "tokens")]
        assert file.metadata()["sha256"] == hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    ids = struct.pack(f"<{S}q", *given[2][9].tolist())
    assert arrays[3].tobytes() == hashlib.blake2b(ids, digest_size=16).digest()


def test_recording_goes_on_after_a_kill(whole, given):
    """A kill leaves a temporary file at most: a shard that is there is whole, and the lost one is the only one to do."""
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    shard(whole, 3).unlink()
    leftover = whole / f".{shard(whole, 3).name}.4711"
    leftover.write_bytes(before[shard(whole, 3).name][:-20])
    writer = Writer(whole, HEADER, shard=5)  # the files' own size stays
    assert writer.shard == SHARD and writer.missing() == [range(3, 6)]
    with pytest.raises(UserError, match="lacks 1 of its 4 files, the first shard-00000003"):
        Reader(whole, HEADER)
    writer.write(3, samples_of(given, range(3, 6)))
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before
    assert writer.missing() == []


@pytest.mark.long
def test_a_kill_in_the_middle_of_a_write_leaves_no_shard(tmp_path):
    """The disk goes away after half of the bytes, and the process with it, as a preempted job's."""
    script = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
import torch
from nemo_plugins.distillation.records import Recorded, Writer
header = Recorded("abc", "tok", [], 0, 1, 6, 3, 2.0, 4, 50, "fp32")
writer = Writer({str(tmp_path)!r}, header, 3)
os.fsync = lambda descriptor: (os.ftruncate(descriptor, 200), os._exit(9))
probabilities = torch.zeros(3, 6, 4)
writer.write(0, dict(indices=probabilities.int(), logprobs=probabilities, tail=probabilities[..., 0], tokens=torch.ones(3, 6)))
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert not shard(tmp_path, 0).exists() and len(list(tmp_path.glob(".shard-*"))) == 1
    header = Recorded("abc", "tok", [], 0, 1, 6, 3, 2.0, 4, 50, "fp32")
    assert Writer(tmp_path, header, 3).missing() == [range(0, 3)]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_cover_all_samples_without_overlap_whatever_is_there(whole, parts):
    writer = Writer(whole, HEADER)
    dealt = {}
    for first in STARTS:
        shard(whole, first).rename(whole / f"away-{first}")
    for part in range(parts):
        dealt[part] = writer.missing(part, parts)
    assert sorted(i for ranges in dealt.values() for at in ranges for i in at) == list(range(N))
    assert max(map(len, dealt.values())) - min(map(len, dealt.values())) <= 1
    (whole / "away-3").rename(shard(whole, 3))
    for part in range(parts):  # another process' progress moves nothing to another part
        assert writer.missing(part, parts) == [at for at in dealt[part] if at.start != 3]
    with pytest.raises(ValueError, match="part must be"):
        writer.missing(parts, parts)


OTHERS = {
    "teacher": "other",
    "tokenizer": "other",
    "text": ["t2", "t1"],
    "exercises": 6,
    "seed": 2,
    "seq_length": 7,
    "samples": 20,
    "temperature": 1.0,
    "top_k": 5,
    "vocabulary": 51,
    "precision": "32-true",
    "document_boundaries": True,
    "format": 0,
    "draws": 5,
}


def test_every_field_has_a_refusal():
    assert set(OTHERS) | {"versions"} == {field.name for field in dataclasses.fields(Recorded)}


@pytest.mark.parametrize("key", OTHERS)
def test_another_recording_than_asked_for_is_refused(whole, key):
    asked = dataclasses.replace(HEADER, **{key: OTHERS[key]})
    for take in (Reader, Writer):
        with pytest.raises(UserError) as error:
            take(whole, asked)
        first, *differ, what_to_do = str(error.value).splitlines()
        assert first == f"teacher.record: {whole} holds another recording than asked for:"
        [line] = differ
        assert line.startswith(f"  {key}: {getattr(HEADER, key)} there, {OTHERS[key]} asked for")
        assert "teacher.mode=record" in what_to_do and "ask for what was recorded" in what_to_do


def test_all_that_differs_is_named_with_its_key():
    lines = HEADER.refusals(dataclasses.replace(HEADER, top_k=8, seed=3))
    assert lines == ["seed: 1 there, 3 asked for (run.seed)", "top_k: 4 there, 8 asked for (distill.loss.top_k)"]


def test_another_torch_or_nemo_is_a_warning_and_another_megatron_a_refusal(whole):
    asked = dataclasses.replace(HEADER, versions=VERSIONS | {"torch": "2.10.0", "nemo-toolkit": "2.8.0"})
    says = ["nemo-toolkit: 2.7.3 there, 2.8.0 here", "torch: 2.9.0 there, 2.10.0 here"]
    assert Reader(whole, asked).warnings == Writer(whole, asked).warnings == says
    asked = dataclasses.replace(HEADER, versions=VERSIONS | {"megatron-core": "0.16.0"})
    with pytest.raises(UserError, match="megatron-core: 0.15.3 there, 0.16.0 asked for"):
        Reader(whole, asked)
    assert set(records.versions()) == set(VERSIONS)


def test_other_tokens_are_refused_at_the_sample_where_they_come(whole, given):
    _, _, tokens = given
    reader = Reader(whole, HEADER)
    reader.sample(4, tokens[4])
    changed = tokens[5].clone()
    changed[-1] ^= 1
    for other in (tokens[6], changed):
        with pytest.raises(UserError, match="the data order changed at sample 5"):
            reader.sample(5, other)
    for outside in (-1, N):
        with pytest.raises(IndexError):
            reader.sample(outside, tokens[0])


def test_missing_files_are_counted(whole):
    for first in (0, 6, 9):
        shard(whole, first).unlink()
    with pytest.raises(UserError, match="lacks 3 of its 4 files(?s:.*)teacher.mode=record"):
        Reader(whole, HEADER)


def test_a_file_cut_short_is_refused_at_the_start(whole, given):
    cut = shard(whole, 6).read_bytes()
    shard(whole, 6).write_bytes(cut[: len(cut) // 2])
    with pytest.raises(UserError, match="shard-00000006.safetensors is damaged(?s:.*)delete that file and record again"):
        Reader(whole, HEADER)
    shard(whole, 6).write_bytes(cut[:-1])  # a size that only the file's own header tells from a whole one
    with pytest.raises(UserError, match="shard-00000006.safetensors is damaged"):
        Reader(whole, HEADER).sample(6, given[2][6])


def test_a_flipped_bit_anywhere_is_refused(whole, given):
    """Any byte of the data, and of the header any that would give other numbers."""
    _, _, tokens = given
    path, want = shard(whole, 9), samples_of(given, range(9, 10))
    good, begin = path.read_bytes(), header_bytes(path)
    for byte in range(len(good)):
        flip(path, byte, byte % 8)
        try:
            found = Reader(whole, HEADER).sample(9, tokens[9])
        except UserError as error:
            assert "shard-00000009.safetensors is damaged" in str(error) and "delete that file and" in str(error)
        else:
            assert byte < begin and all(found[name].equal(want[name][0]) for name in found), byte
        path.write_bytes(good)
    Reader(whole, HEADER).sample(9, tokens[9])


def test_a_folder_that_is_no_record_is_refused(whole):
    with pytest.raises(UserError, match="no file .*nowhere/record.json"):
        Reader(whole / "nowhere", HEADER)
    content = (whole / "record.json").read_text()
    for bad in ("{", "[]", "{}", '{"recorded": {"teacher": "abc"}, "shard": 3}', content.replace('"shard": 3', '"shard": 0')):
        (whole / "record.json").write_text(bad)
        with pytest.raises(UserError, match="does not say what was recorded"):
            Reader(whole, HEADER)
    (whole / "record.json").unlink()
    with pytest.raises(UserError, match="holds 4 files such as shard-00000000.safetensors, but no record.json"):
        Writer(whole, HEADER)


def test_what_does_not_fit_the_header_is_not_written(tmp_path, given):
    writer, good = Writer(tmp_path, HEADER, SHARD), samples_of(given, range(3, 6))
    nan = good["logprobs"].clone()
    nan[1, 2, 3] = float("nan")
    for change, error, says in [
        ({"indices": good["indices"] + V}, ValueError, "expected indices from 0 to 49"),
        ({"indices": good["indices"] - V}, ValueError, "expected indices from 0 to 49"),
        ({"tail": good["tail"].double()}, ValueError, "float32"),
        ({"logprobs": good["logprobs"].bfloat16()}, ValueError, "float32"),
        ({"tokens": good["tokens"][:2]}, ValueError, "for the samples from 3"),
        ({"logprobs": nan}, Failed, "sample 4 of the training order"),
    ]:
        with pytest.raises(error, match=says):
            writer.write(3, good | change)
    for first in (1, 12):
        with pytest.raises(ValueError, match="first must be a multiple of 3"):
            writer.write(first, good)
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_space_and_header_are_known_without_torch(whole):
    script = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from nemo_plugins.distillation import records
records.read_header({str(whole)!r})[0].rows.bytes_per_token(), records.versions()
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
