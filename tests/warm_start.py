"""Recipes for tests, forked from one process that has imported NeMo: it starts with the first test that wants it."""

import atexit
import os
import subprocess
import tempfile
from pathlib import Path

from nemo_plugins.runs import chain, warm

_server = warm.Server(free={"SLURM_JOB_END_TIME"})  # which stages read when they run
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

    `nemo`: whether it imports NeMo; by default what a chain knows of the recipe.
    """
    if not (chain.uses_nemo(command) if nemo is None else nemo):
        return subprocess.run(command, cwd=cwd, env=env, timeout=timeout, capture_output=True, text=True)
    _server.start()
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
