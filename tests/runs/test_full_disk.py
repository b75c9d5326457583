"""A full disk is known as one, whoever says so and however."""

import errno
import os
from importlib import import_module
from types import SimpleNamespace

import pytest

recipe = import_module("nemo_plugins.runs.recipe")  # the package has a decorator of the module's name


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_it_is_known_by_its_number_and_in_what_a_writer_process_hands_on(number, tmp_path):
    error = OSError(number, os.strerror(number))
    assert recipe.is_full_disk(error, tmp_path)
    assert recipe.is_full_disk(RuntimeError(f"Worker failure: {error}"), tmp_path)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, ""), RuntimeError("Worker failure: [Errno 13]"), ValueError("28")])
def test_nothing_else_is(error, tmp_path):
    assert not recipe.is_full_disk(error, tmp_path)


def test_an_error_that_tells_nothing_is_one_where_there_is_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe.shutil, "disk_usage", lambda folder: SimpleNamespace(free=4096))
    assert recipe.is_full_disk(RuntimeError("unexpected pos 704 vs 598"), tmp_path)
    assert recipe.is_full_disk(OSError("1572864 requested and 902080 written"), tmp_path)  # numpy's, without a number
    assert not recipe.is_full_disk(OSError(errno.EACCES, ""), tmp_path)
    assert not recipe.is_full_disk(RuntimeError("unexpected pos 704 vs 598"), tmp_path / "gone")
