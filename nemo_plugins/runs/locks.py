"""Locks between processes, of one node or of several on a shared file system."""

from __future__ import annotations

import errno
import fcntl
from typing import IO

from nemo_plugins.runs.errors import UserError

NONE_HERE = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # Lustre without -o flock, others without any, NFS without its daemon


def take(file: IO, wait: bool = True) -> None:
    """Lock an open file until it is closed.

    Raises:
        BlockingIOError: another process has it, and this one is not to wait.
        UserError: its file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in NONE_HERE:
            raise
        raise UserError(
            f"{file.name} cannot be locked: its file system has no locks ({error.strerror})",
            "expected run.root on one that has them: Lustre mounted with -o flock, NFS with its lock daemon",
        ) from None
