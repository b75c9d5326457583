"""Locks between processes, and file systems that have none."""

import errno
import fcntl
import re

import pytest

from nemo_plugins.platforms import machine
from nemo_plugins.runs import Run, UserError, locks
from nemo_plugins.runs.prepare import compose


def test_one_waits_for_the_other_or_is_told(tmp_path):
    with (tmp_path / "lock").open("w") as first, (tmp_path / "lock").open("w") as second:
        locks.take(first)
        with pytest.raises(BlockingIOError):
            locks.take(second, wait=False)
        first.close()
        locks.take(second)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_the_users_to_change(tmp_path, monkeypatch, number):
    """As Lustre answers that was mounted without them: for a run's folder, and where a job looks at its nodes."""

    def flock(*_):
        raise OSError(number, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    run = Run(compose(["+model=tiny_pl", f"run.root={tmp_path}"]), "prune", "prune")
    with pytest.raises(UserError, match=re.escape(str(run.folder))) as error:
        run.begin()
    assert "no locks" in str(error.value) and "Lustre" in str(error.value)
    assert "no locks" in machine.place(tmp_path)["problem"]
