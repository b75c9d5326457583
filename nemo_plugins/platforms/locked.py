"""Versions that are installed against those of `requirements.lock`, read from the names of folders: nothing is imported."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

from nemo_plugins.configs.store import REPOSITORY

LOCK = REPOSITORY / "requirements.lock"
FOLDER = re.compile(r"(.+?)-([^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")
SECTION = "# of the extras "  # before their names, above the lines that no other needs
OF_THE_PLATFORM = ("torch", "transformer-engine", "apex", "triton")  # not in the lock, and decide as much


def wanted(lock: Path = LOCK) -> dict[str, str]:
    """Version by name of what the lock asks for on this Python and machine; `==` lines with or without a marker."""
    return {name: version for name, version in _lines(lock) if version}


def elsewhere(lock: Path = LOCK) -> list[str]:
    """Names of what the lock asks for on another Python or machine alone."""
    return sorted({name for name, _ in _lines(lock)} - set(wanted(lock)))


def left_out(here: Collection[str], lock: Path = LOCK) -> dict[str, str]:
    """Packages of extras that were not set up here, each with the extras that have it: of each of those none is installed."""
    names, extras = "", {}
    for line in lock.read_text().splitlines():
        if line.startswith(SECTION):
            names = line.removeprefix(SECTION)
        elif names and "==" in line:
            extras[normal(re.split(r"[=\s;]", line)[0])] = names
    set_up = {extra for package, names in extras.items() if package in here for extra in names.split()}
    return {package: names for package, names in extras.items() if set_up.isdisjoint(names.split())}


def _lines(lock: Path) -> Iterator[tuple[str, str | None]]:
    """(name, version) of every line; None where its marker does not hold here."""
    from packaging.requirements import Requirement

    for line in lock.read_text().splitlines():
        if "==" not in line or line.startswith("#"):
            continue
        if ";" not in line:
            name, version = line.split("==")
        else:
            asked = Requirement(line)
            name, version = asked.name, str(asked.specifier).removeprefix("==") if asked.marker.evaluate() else ""
        yield normal(name), version.strip() or None


@cache
def installed() -> dict[str, str]:
    """Version by name of what an import would find, the first folder of `sys.path` first."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if match := FOLDER.fullmatch(name):
                found.setdefault(normal(match[1]), match[2])
    return found


def normal(name: str) -> str:
    """A package's name as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def differences(lock: Mapping[str, str], here: Mapping[str, str]) -> tuple[dict[str, list[str]], list[str]]:
    """Packages of another version, each with the lock's and its own, and those that are not installed."""
    differ = {name: [version, here[name]] for name, version in lock.items() if name in here and here[name] != version}
    return differ, [name for name in lock if name not in here]


def fingerprint(lock: Mapping[str, str], here: Mapping[str, str]) -> str:
    """16 hexadecimal digits of all installed versions that decide what comes out: nodes with the same may work together."""
    lines = [f"{name}=={here.get(name)}" for name in sorted({*lock, *OF_THE_PLATFORM})]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
