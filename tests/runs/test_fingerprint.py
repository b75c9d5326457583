"""A fingerprint changes where the content does, and reads little."""

import builtins
import os
import pathlib

import pytest

from nemo_plugins.runs import fingerprint
from nemo_plugins.runs.fingerprint import PART


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


def test_both_ends_of_a_large_file_count_and_its_middle_is_not_read(tmp_path, monkeypatch):
    file = tmp_path / "shard"
    body = bytearray(8 * PART)
    file.write_bytes(body)
    first = fingerprint(file)
    read = 0
    real = builtins.open

    class Counting:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def read(self, size):
            nonlocal read
            data = self.stream.read(size)
            read += len(data)
            return data

        def seek(self, to):
            self.stream.seek(to)

    monkeypatch.setattr(pathlib.Path, "open", lambda self, mode: Counting(real(self, mode)))
    assert fingerprint(file) == first
    assert read == 2 * PART
    monkeypatch.undo()
    for place in (0, len(body) - 1):
        changed = bytearray(body)
        changed[place] = 1
        file.write_bytes(changed)
        assert fingerprint(file) != first


def test_a_megatron_prefix_is_its_two_files(tmp_path):
    for suffix in (".bin", ".idx"):
        (tmp_path / f"text{suffix}").write_bytes(b"1")
    first = fingerprint(tmp_path / "text")
    (tmp_path / "text.idx").write_bytes(b"2")
    assert fingerprint(tmp_path / "text") != first
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "nothing")
