"""The environment of `./minitron setup`: which Python it takes, and what it says where none will do. No package is fetched."""

import ensurepip
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.platforms import locked
from nemo_plugins.runs.stages import by_name

HIDDEN = """import sys
sys.modules["ensurepip"] = None
"""


@pytest.fixture
def setup(tmp_path):
    """Run it in a folder of its own, where programs are those of a test's folder and of the system, without Python and uv."""
    folder, programs = tmp_path / "checkout", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name in ("minitron", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, folder)
    for name in ("awk", "bash", "cat", "cut", "dirname", "env", "getconf", "head", "readlink", "sha256sum", "sort"):
        (programs / name).symlink_to(shutil.which(name))

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess:
        env = {
            "PATH": str(programs),
            "HOME": str(tmp_path),
            "PIP_NO_INDEX": "1",
            "UV_OFFLINE": "1",
            "PIP_CONFIG_FILE": os.devnull,
        }
        return subprocess.run([folder / "minitron", "setup", *words], env=env | variables, capture_output=True, text=True)

    run.venv, run.programs = folder / ".venv" / "bin" / "python", programs
    return run


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def has_pip(python: Path) -> bool:
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


@pytest.mark.long
def test_an_environment_is_made_and_one_that_was_left_without_pip_is_mended(setup):
    program(setup.programs / "python3", f'exec "{sys.executable}" "$@"')
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", setup.venv.parents[1]], check=True)
    assert not has_pip(setup.venv)
    assert setup().returncode == 1  # no package can be fetched here
    assert has_pip(setup.venv)


@pytest.mark.long
def test_the_distributions_pip_stands_in_for_ensurepip(setup, tmp_path):
    """As Debian's python3 with python3-pip and without python3-venv."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HIDDEN)
    program(setup.programs / "python3", f'PYTHONPATH="{tmp_path}/site" exec "{sys.executable}" "$@"')
    bundled = Path(ensurepip.__file__).parent / "_bundled"
    assert setup(PIP_FIND_LINKS=str(bundled)).returncode == 1
    assert has_pip(setup.venv)


def test_without_any_pip_it_says_what_to_install(setup, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HIDDEN + 'sys.modules["pip"] = None\n')
    program(setup.programs / "python3", f'PYTHONPATH="{tmp_path}/site" exec "{sys.executable}" "$@"')
    done = setup()
    assert done.returncode == 2 and "apt-get install python3-venv" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("uv", [None, "exit 1"])
def test_without_a_python_that_fits_it_says_where_one_comes_from(setup, uv):
    """No uv, and one that cannot fetch."""
    program(setup.programs / "python3", "exit 1")
    if uv:
        program(setup.programs / "uv", uv)
    done = setup()
    assert done.returncode == 2 and "needs Python 3.11 or 3.12" in done.stderr and "uv python install 3.12" in done.stderr
    assert not setup.venv.exists()


def test_a_lock_is_installed_with_the_extras_that_were_named(setup):
    """pip and uv are scripts that note what they are asked to install; a second call keeps what the first one chose."""
    (setup.venv.parent).mkdir(parents=True)
    program(setup.venv, "exit 0")
    program(setup.venv.with_name("uv"), 'cp .venv/requirements "$HOME/installed"')
    (setup.programs / "cp").symlink_to(shutil.which("cp"))
    installed = setup.programs.parent / "installed"

    def names() -> set[str]:
        lines = installed.read_text().splitlines()
        installed.unlink()
        assert not [line for line in lines if line.startswith("#")]
        return {line.split("==")[0] for line in lines}

    assert setup().returncode == 0
    everything = names()
    assert {"nemo-toolkit", "datatrove", "lm-eval", "xllamacpp", "pytest"} <= everything
    (setup.venv.parents[1] / ".extras").unlink()
    assert setup("corpus").returncode == 0
    some = names()
    assert {"nemo-toolkit", "datatrove"} <= some and not {"lm-eval", "xllamacpp", "pytest"} & some
    assert setup().returncode == 0 and not installed.exists()
    assert setup("eval").returncode == 0
    assert {"datatrove", "lm-eval"} <= names()
    done = setup("training")
    assert done.returncode == 2 and "no extra 'training'" in done.stderr and "corpus dev eval serve" in done.stderr


def test_every_extra_has_its_packages_and_training_none_of_them():
    """The lock's sections are pyproject.toml's extras, and what a stage that trains imports is in none."""
    here = locked.installed()
    out = locked.left_out(set())
    assert {name for names in out.values() for name in names.split()} == {"corpus", "dev", "eval", "serve"}
    assert locked.left_out(here) == {} and "lm-eval" in locked.left_out({"datatrove", "pytest", "xllamacpp"})
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in ("corpus", "dev", "eval", "serve"):
        named = {locked.normal(Requirement(line).name) for line in extras[extra]}
        assert {name for name in named if extra in out[name].split()} == named
    for stage in by_name().values():
        assert not stage.trains or not set(stage.packages) & out.keys()
