"""Recipes for tests, forked from one process that has imported NeMo: it starts with the first test that wants it."""

import atexit
import subprocess
import tempfile
from pathlib import Path

from nemo_plugins.runs import chain, warm

_server = warm.Server()
atexit.register(_server.stop)


def run(
    command: list[str], *, cwd: str | Path | None = None, env: dict[str, str] | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess:
    """As `subprocess.run(command, capture_output=True, text=True)`; a fresh process where the environment is another one."""
    if not chain.uses_nemo(command):
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
