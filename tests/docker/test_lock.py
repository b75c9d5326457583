"""requirements.lock on the image's Python and beside its torch: by the installed packages' own word, and by the registries'."""

import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.platforms import locked

# of nvcr.io/nvidia/pytorch:25.09-py3: NVIDIA's release notes, and the images built on it
PYTHON = "3.12"
TORCH = "2.9.0a0+50eac811a6.nv25.9"
NO_PACKAGE = ("torch",)  # of the platform


@cache
def requirements() -> list[tuple[str, Requirement]]:
    """(package, what it wants) on the image's Python, without extras, of every locked package that is installed here."""
    there = default_environment() | {"python_version": PYTHON, "python_full_version": f"{PYTHON}.3", "extra": ""}
    found = []
    for distribution in metadata.distributions():
        name = locked.normal(distribution.metadata["Name"])
        if name in locked.wanted():
            wants = map(Requirement, distribution.requires or ())
            found += [(name, want) for want in wants if want.marker is None or want.marker.evaluate(there)]
    ours = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    return [*found, *(("pyproject.toml", Requirement(line)) for line in ours)]


def versions() -> dict[str, str]:
    """What the lock installs on the image's Python."""
    there = default_environment() | {"python_version": PYTHON, "python_full_version": f"{PYTHON}.3"}
    lines = [line for line in locked.LOCK.read_text().splitlines() if "==" in line and not line.startswith("#")]
    asked = [Requirement(line) for line in lines]
    return {
        locked.normal(one.name): str(one.specifier).removeprefix("==")
        for one in asked
        if one.marker is None or one.marker.evaluate(there)
    }


def test_every_package_takes_the_images_torch():
    wants = [(name, want) for name, want in requirements() if want.name == "torch"]
    assert len(wants) > 10  # NeMo, Megatron-Core, ModelOpt, …
    assert not [f"{name} wants {want}" for name, want in wants if not want.specifier.contains(TORCH, prereleases=True)]


def test_the_locked_versions_fit_each_other_on_the_images_python():
    pins = versions()
    wrong = []
    for name, want in requirements():
        pinned = pins.get(locked.normal(want.name))
        if want.name not in NO_PACKAGE and (pinned is None or not want.specifier.contains(pinned, prereleases=True)):
            wrong.append(f"{name} wants {want}, locked is {pinned}")
    assert not wrong


def test_the_lock_resolves_on_the_images_python(tmp_path):
    """uv asks the registries for every locked version, its wheels for Python 3.12 and what it depends on."""
    uv = Path(sys.executable).parent / "uv"
    command = [uv, "pip", "compile", "--system-certs", "--quiet", "--no-header", "--no-annotate", "--python-version", PYTHON]
    command += [locked.LOCK, "-o", tmp_path / "resolved.txt"]
    environment = {**os.environ, "UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    if re.search(r"error sending request|dns error|Failed to fetch|Network connectivity|timed out", done.stderr):
        pytest.skip("the registries cannot be reached from here")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "resolved.txt").read_text().splitlines()
    resolved = {locked.normal(line.split("==")[0]): line.split("==")[1].split()[0] for line in lines if "==" in line}
    assert resolved == versions()
