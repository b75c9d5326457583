"""A recipe of the tests' own: everything around a stage is real, the stage itself only counts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm_start

REPOSITORY = Path(__file__).resolve().parents[2]
STAGE = '''
"""A stage that counts to pretrain.max_steps."""
import dataclasses, errno, os, signal, sys, time
sys.path.insert(0, {repository!r})
from nemo_plugins import runs
from nemo_plugins.planning.plan import Plan
from nemo_plugins.runs import output, stages

def plan(cfg):
    return Plan("count")

reads = ("pretrain", "model")
count = dataclasses.replace(stages.by_name()["pretrain"], plan="__main__:plan", reads=reads, folder="")

def tell(*words, stream=1):  # past `quiet`, to the terminal
    print(*words, file=output.stream(stream), flush=True)

@runs.recipe(count)
def main(cfg, run):
    act = os.environ.get("ACT", "")
    text = run.folder.parent.parent.parent / "text.txt"
    if text.is_file():
        run.input(text)
    done = [line["step"] for line in run.read_metrics()][-1:] or [0]
    tell("rank", runs.rank(), "of", os.environ.get("WORLD_SIZE", "1"), "resuming", run.resuming, "from", done[0])
    if act == "user":
        raise runs.UserError("data.train: bad", "expected good")
    if act == "denied":
        raise PermissionError(errno.EACCES, "Permission denied", "another's file")
    if act == "crash1" and runs.rank() == 0:
        time.sleep(30)
    if act == "crash" or act == f"crash{{runs.rank()}}":
        tell("worker dies", stream=2)
        raise ValueError("boom")
    if act == "stop":
        run.log_metrics(step=3, loss=2.0)
        raise runs.Stopped("time is up")
    if act == "forget":
        return
    if act == "wait":
        run.log_metrics(step=1, loss=3.0)
        (run.folder / f"waiting{{runs.rank()}}").touch()
        tell("waiting")
        time.sleep(30)
    run.truncate_metrics(done[0])
    for step in range(done[0] + 1, cfg.pretrain.max_steps + 1):
        run.log_metrics(step=step, loss=1 / step)
    (run.folder / "checkpoint").mkdir(exist_ok=True)
    if os.environ.get("WORLD_SIZE") and os.environ["MASTER_PORT"] != "none":  # ranks end together, as in training
        (run.folder / f"done{{runs.rank()}}").touch()
        while not all((run.folder / f"done{{rank}}").exists() for rank in range(int(os.environ["WORLD_SIZE"]))):
            time.sleep(0.02)
    outputs = {{"checkpoint": run.folder / "checkpoint"}}
    run.finish(outputs=outputs, metrics={{"loss_last": 0.5}}, next="go on", counted={{"to": 4}})

if __name__ == "__main__":
    main()
'''


class Stage:
    """Runs the counting stage from `cwd` as a user would."""

    def __init__(self, folder: Path):
        self.cwd = folder
        self.file = folder / "count.py"
        self.file.write_text(STAGE.format(repository=str(REPOSITORY)))
        self.folder = folder / "runs" / "tiny_pl" / "pretrain"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(self.file), "+model=tiny_pl", "debug=fast", *arguments]

    def env(self, act: str = "", **more: str) -> dict[str, str]:
        job = ("RANK", "WORLD_SIZE", "SLURM_", "PYTHONDONTWRITEBYTECODE")  # without bytecode each start compiles for a second
        return {k: v for k, v in os.environ.items() if not k.startswith(job)} | {"ACT": act, "OMP_NUM_THREADS": "1"} | more

    def __call__(self, *arguments: str, act: str = "", **more: str) -> subprocess.CompletedProcess:
        return warm_start.light(self.command(*arguments), cwd=self.cwd, env=self.env(act, **more), timeout=60)


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)
