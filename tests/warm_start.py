"""Recipes for tests, forked from a process that has imported NeMo, or from one that has imported what recipes do before it.

Either starts with the first test that wants it.
"""

import atexit
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from nemo_plugins.configs import REPOSITORY
from nemo_plugins.runs import chain, warm

_server = warm.Server(free={"SLURM_JOB_END_TIME"})  # which stages read when they run
_light = warm.Server(free={"ACT", "HF_HOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}, preload="light_preload")
atexit.register(_server.stop)


def start(command: list[str], said: str | Path = os.devnull) -> subprocess.Popen | warm.ForkedProcess:
    """A recipe in a session of its own, which the caller waits for; what it says goes to the file `said`."""
    _server.start()
    with open(said, "wb") as file:
        try:
            return warm.start(command, stdout=file, stderr=file)
        except warm.Unavailable:
            return subprocess.Popen(command, start_new_session=True, stdout=file, stderr=file)


def run(
    command: list[str],
    *,
    cwd: str | Path | None = None,
    env: dict[str, str] | None = None,
    timeout: float | None = None,
    nemo: bool | None = None,
) -> subprocess.CompletedProcess:
    """As `subprocess.run(command, capture_output=True, text=True)`; a fresh process where the environment is another one.

    `nemo`: whether it is forked; by default what a chain knows of the recipe.
    """
    if not (chain.starts_warm(command) if nemo is None else nemo):
        return subprocess.run(command, cwd=cwd, env=env, timeout=timeout, capture_output=True, text=True)
    _server.start()
    return _forked(command, cwd, env, timeout)


def light(
    command: list[str], *, cwd: str | Path | None = None, env: dict[str, str] | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess:
    """As `run`, of a recipe that has little to do: what recipes import before NeMo is imported, and composed, already.

    A process that it starts itself in this way has no NeMo either.
    """
    return _forked(command, cwd, {**(os.environ if env is None else env), warm.ADDRESS: _address()}, timeout)


@cache
def _address() -> str:
    """Of the server of `light`, which ends with this process; in this environment it is not seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(warm.ADDRESS, "")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)]))
        _light.start()
        return os.environ[warm.ADDRESS]


def _forked(
    command: list[str], cwd: str | Path | None, env: dict[str, str] | None, timeout: float | None
) -> subprocess.CompletedProcess:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            process = warm.start(command, cwd=cwd, env=env, stdout=out, stderr=err)
            code = process.wait(timeout)
        except warm.Unavailable:
            return subprocess.run(command, cwd=cwd, env=env, timeout=timeout, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())
