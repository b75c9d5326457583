"""A fingerprint changes where the content does, and nowhere else."""

import os
import sys

import pytest

from nemo_plugins.runs import fingerprint

module = sys.modules["nemo_plugins.runs.fingerprint"]


def test_content_names_and_sizes_count_and_times_do_not(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("tekst")
    first = fingerprint(tmp_path)
    os.utime(file, (1, 1))
    (tmp_path / ".lock").write_text("7")
    (tmp_path / "README.md").write_text("a model card, written when all is done")
    assert fingerprint(tmp_path) == first
    file.rename(tmp_path / "b.txt")
    assert fingerprint(tmp_path) != first
    (tmp_path / "b.txt").write_text("Tekst")
    assert fingerprint(tmp_path / "b.txt") != first


def test_a_name_may_be_any_bytes(tmp_path):
    file = tmp_path / os.fsdecode(b"a\xff.txt")
    file.write_text("tekst")
    first = fingerprint(tmp_path)
    file.rename(tmp_path / os.fsdecode(b"a\xfe.txt"))
    assert fingerprint(tmp_path) != first


@pytest.fixture
def small_pieces(tmp_path, monkeypatch):
    """Large files are some KiB here, and what is remembered lies in the test's folder. Returns the names of files read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "LARGE", 4096)
    monkeypatch.setattr(module, "PIECE", 1024)
    read, real = [], module._content
    monkeypatch.setattr(module, "_content", lambda file: (read.append(file.name), real(file))[1])
    return read


@pytest.mark.parametrize("place", [0, 1_300_000, 2_600_000 - 1])
def test_a_byte_anywhere_counts_whatever_the_times_and_the_size_say(tmp_path, place):
    file = tmp_path / "text.txt"
    body = bytearray(b"a" * 2_600_000)
    file.write_bytes(body)
    first, stat = fingerprint(file), file.stat()
    body[place] = ord("b")
    file.write_bytes(body)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fingerprint(file) != first


@pytest.mark.parametrize("place", [0, 5000, 10_000 - 1])
def test_a_byte_of_a_large_file_counts_though_its_hash_was_remembered(tmp_path, small_pieces, monkeypatch, place):
    monkeypatch.setattr(module, "SETTLED", -1.0)
    file = tmp_path / "shard"
    body = bytearray(10_000)
    file.write_bytes(body)
    first, stat = fingerprint(file), file.stat()
    assert fingerprint(file) == first and small_pieces == ["shard"]  # read once
    body[place] = 1
    file.write_bytes(body)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fingerprint(file) != first


def test_a_large_file_that_has_just_changed_is_read_again(tmp_path, small_pieces):
    file = tmp_path / "shard"
    file.write_bytes(bytes(10_000))
    assert fingerprint(file) == fingerprint(file) and small_pieces == ["shard", "shard"]


def test_two_places_of_a_large_file_that_change_places_count(tmp_path, small_pieces):
    file = tmp_path / "shard"
    file.write_bytes(b"a" * 1024 + b"b" * 1024 + b"c" * 4096)
    first = fingerprint(file)
    file.write_bytes(b"b" * 1024 + b"a" * 1024 + b"c" * 4096)
    assert fingerprint(file) != first


@pytest.mark.parametrize("content", ["", "null", '{"state": 1}', '{"state": [], "content": "xy"}'])
def test_a_damaged_memory_is_not_believed(tmp_path, small_pieces, monkeypatch, content):
    monkeypatch.setattr(module, "SETTLED", -1.0)
    file = tmp_path / "shard"
    file.write_bytes(bytes(10_000))
    first = fingerprint(file)
    [note] = (tmp_path / "cache").rglob("*.json")
    note.write_text(content)
    assert fingerprint(file) == first and small_pieces == ["shard", "shard"]


def test_without_a_place_to_remember_it_is_the_same(tmp_path, small_pieces, monkeypatch):
    file = tmp_path / "shard"
    file.write_bytes(bytes(10_000))
    first = fingerprint(file)
    (tmp_path / "no").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no"))
    assert fingerprint(file) == first


def test_where_a_folder_lies_does_not_count(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "weights").mkdir(parents=True)
        (tmp_path / name / "weights" / ".metadata").write_bytes(b"where the tensors lie")
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")
    (tmp_path / "two" / "weights" / ".metadata").write_bytes(b"elsewhere")
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "two")


def test_a_megatron_prefix_is_its_two_files(tmp_path):
    for suffix in (".bin", ".idx"):
        (tmp_path / f"text{suffix}").write_bytes(b"1")
    first = fingerprint(tmp_path / "text")
    (tmp_path / "text.idx").write_bytes(b"2")
    assert fingerprint(tmp_path / "text") != first
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "nothing")
