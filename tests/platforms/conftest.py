"""One start of NeMo for all tests of this folder (20 s of import), and one run of each probe in a fork of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def errors(tmp_path_factory) -> dict[tuple[str, str | None], str | None]:
    """(probe, adjustment left out) → None, or the last line of what went wrong."""
    from nemo_plugins import platforms

    if platforms.has_cuda() or platforms.has_transformer_engine():
        pytest.skip("a CUDA device or Transformer Engine is here: nothing is missing that could be put right")
    folder = tmp_path_factory.mktemp("probes")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NVTE_")}  # Megatron's own
    environment = {**inherited, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(Path(__file__).with_name("probes.py")), str(folder)]
    with open(folder / "stderr.log", "w") as log:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, timeout=900)
    assert done.returncode == 0, (folder / "stderr.log").read_text()[-2000:]
    runs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(run["probe"], run["without"]): run["error"] for run in runs}
