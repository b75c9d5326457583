"""Whether the numbers of a configuration can be."""

from __future__ import annotations

from operator import attrgetter

from nemo_plugins.runs.errors import UserError


def at_least(least: float, section: object, key: str, *names: str) -> None:
    """Refuse the first of these numbers that is below `least`; None passes.

    Args:
        key: of the section in the configuration.
        names: of its numbers; a dot leads into a section of it.
    Raises: UserError.
    """
    for name in names:
        value = attrgetter(name)(section)
        if value is not None and not value >= least:
            raise UserError(f"{key}.{name}={value}: expected at least {least}")
