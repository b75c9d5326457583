"""How a run ends when it does not end well: the user's mistake, or an early stop that can be resumed."""

from __future__ import annotations

DONE, FAILED, WRONG_INPUT, RESUMABLE = 0, 1, 2, 75  # exit codes; 75 is EX_TEMPFAIL of sysexits.h


class UserError(Exception):
    """The user's input is wrong: exit code 2, one message, no traceback.

    Args:
        *parts: lines of the message: the key or file with what came, what was expected, what to do.
    """

    def __str__(self) -> str:
        return "\n".join(str(part) for part in self.args)


class Unusable(UserError):
    """What the user names is on this machine, and no run can use it: a dry run refuses it, too."""


class Failed(Exception):
    """The stage cannot go on, for a reason that can be named: exit code 1, one message, no traceback."""

    __str__ = UserError.__str__


class Stopped(Exception):
    """The stage stopped before its end and the same command resumes it: exit code 75."""
