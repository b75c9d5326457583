"""A full disk is known as one, whoever says so and however."""

import errno
import os

import pytest

from nemo_plugins.runs.recipe import is_full_disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_it_is_known_by_its_number_and_in_what_a_writer_process_hands_on(number):
    error = OSError(number, os.strerror(number))
    assert is_full_disk(error)
    assert is_full_disk(
        RuntimeError(f"Worker failure: {error}")
    )  # megatron/core/dist_checkpointing/strategies/filesystem_async.py


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "no"), RuntimeError("Worker failure: [Errno 13] no"), ValueError("28")]
)
def test_nothing_else_is(error):
    assert not is_full_disk(error)
