"""The stages of a chain, one process after the other. A finished one says so by itself and costs a second."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from nemo_plugins.configs.schema import Kind, PlatformConfig, Recipe
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.platforms import gpus
from nemo_plugins.runs import children, locks, output, paths, warm, workers
from nemo_plugins.runs.command_line import line, override
from nemo_plugins.runs.progress_line import ProgressLine
from nemo_plugins.runs.stages import by_name

OF_THE_TEACHER = ("+model=", "model.", "convert.random=", "run.root=", "run.seed=")  # overrides that an import takes over
TICK = 1.0  # seconds between two looks at a stage


def run(
    folder: Path,
    stages: list[tuple[str, Path, list[str]]],
    platform: PlatformConfig | None = None,
    look: Callable[[ProgressLine], None] | None = None,
) -> None:
    """Run stages as (name below `folder`, recipe file, overrides), then print what each took and came to.

    Args:
        platform: of the chain; on a CPU NeMo is imported once for all stages. None: each is a fresh process.
        look: called with the line that shows progress, every second of a stage and when it has ended well.

    Raises:
        SystemExit: with the exit code of the first stage that fails; the stages after it are not started.
    """
    server = warm.Server() if platform and can_start_warm(platform) else None
    try:
        with ProgressLine(folder, [(name, recipe.stem) for name, recipe, _ in stages], look) as progress:
            for name, recipe, overrides in stages:
                progress.begin(name)
                if server and _imports_nemo(recipe) and not (folder / name / "summary.json").is_file():
                    server.start()
                code = process([sys.executable, str(recipe), *overrides], progress=progress)
                if code:
                    progress.fail(name)
                    output.error(f"{name} ended with exit code {code}; the same command goes on from there")
                    raise SystemExit(code)
                progress.end()
    finally:
        if server:
            server.stop()
    table(folder, {name: recipe.stem for name, recipe, _ in stages})


def can_start_warm(platform: PlatformConfig) -> bool:
    """Whether stages may be forked from a process that has imported NeMo: one process on a CPU, in no job, no GPU in sight."""
    one = platform.devices == platform.nodes == 1 and workers.world() is None and "SLURM_JOB_ID" not in os.environ
    return one and platform.kind is not Kind.gpu and not gpus.device_files() and warm.ADDRESS not in os.environ


def import_teacher(cfg: Recipe) -> None:
    """Import the teacher's Hugging Face folder into the run where no checkpoint of it is there or named.

    The candidates of a run share one teacher, so it goes into the outermost run; of several processes one imports it, and the
    others wait.

    Raises:
        SystemExit: with the conversion's exit code where it fails.
    """
    if cfg.teacher.path or paths.find(cfg, "convert-import"):
        return
    name = str(cfg.run.name).split("/")[0]
    run = Path(cfg.run.root).expanduser() / name
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".convert-import.lock").open("w") as lock:  # the elements of a job array come all at once
        try:
            locks.take(lock, wait=False)
        except BlockingIOError:
            output.say(f"another process imports the teacher into {run}: waiting for it")
            locks.take(lock)
        if paths.find(cfg, "convert-import"):
            return
        own = [word for word in sys.argv[1:] if word.startswith(OF_THE_TEACHER)]
        overrides = [*own, "convert.to=nemo", override("run.name", name), f"platform.kind={cfg.platform.kind.value}"]
        output.say(f"no teacher in this run yet: {line('convert', overrides)}")
        code = process([sys.executable, str(REPOSITORY / "recipes" / "convert.py"), *overrides])
    if code:
        raise SystemExit(code)


def process(command: list[str], own_work: bool = False, progress: ProgressLine | None = None, log: Path | None = None) -> int:
    """Run a stage with this process's terminal; a signal to this process goes to the stage. Returns its exit code.

    Args:
        own_work: a part of this process's own work: it ends with it, and what it prints goes to the log.
        progress: shows how far it is, and says where it prints.
        log: where it prints instead.
    """
    streams: Mapping[str, IO] = {}
    if not own_work:
        streams = progress.streams if progress else {"stdout": output.stream(1), "stderr": output.stream(2)}
    env = {**os.environ, children.WORKER: "1"} if own_work else dict(os.environ)
    with log.open("a") if log else contextlib.nullcontext() as file:
        if file:
            streams = {"stdout": file, "stderr": file}
        try:
            code = _wait(_start(command, env, streams), progress)
        except warm.Lost:
            code = _wait(_fresh(command, env, streams), progress)  # it goes on, or says that it is done
    return 128 - code if code < 0 else code


def _start(command: list[str], env: dict[str, str], streams: Mapping[str, IO]) -> subprocess.Popen | warm.ForkedProcess:
    """Fork it from the server that there may be, where that saves its imports; else start it."""
    if starts_warm(command):
        try:
            return warm.start(command, env=env, stdout=streams.get("stdout", 1), stderr=streams.get("stderr", 2))
        except warm.Unavailable as why:
            if warm.ADDRESS in os.environ:
                print(f"note: imports NeMo by itself, {why}", file=streams.get("stderr", sys.stderr), flush=True)
    return _fresh(command, env, streams)


def starts_warm(command: list[str]) -> bool:
    """Whether a server forks it; what the platform puts right for NeMo on a CPU slows others, such as an evaluation."""
    stage = by_name().get(Path(command[1]).stem)
    return command[1] == "-m" or bool(stage and (stage.uses_nemo or stage.warm))


def _imports_nemo(recipe: Path) -> bool:
    return recipe.stem in by_name() and by_name()[recipe.stem].uses_nemo


def _fresh(command: list[str], env: dict[str, str], streams: Mapping[str, IO]) -> subprocess.Popen:
    """A session of its own, here and where it is forked: Ctrl-C reaches it once, through us."""
    stdout, stderr = streams.get("stdout"), streams.get("stderr")
    return subprocess.Popen(command, start_new_session=True, env=env, stdout=stdout, stderr=stderr)


def _wait(stage: subprocess.Popen | warm.ForkedProcess, progress: ProgressLine | None) -> int:
    with workers.forwarding([stage]):
        while True:
            try:
                return stage.wait(TICK if progress else None)
            except subprocess.TimeoutExpired:
                if progress:
                    progress.tick()


def table(folder: Path, recipes: Mapping[str, str]) -> None:
    """Seconds and metrics of each stage, from the summaries; of a stage that is declared nowhere all metrics.

    Args:
        recipes: of the stages, by name below `folder`.
    """
    from rich.table import Table

    made = Table(title=str(folder), title_justify="left")
    for column in ("stage", "took", "result"):
        made.add_column(column, overflow="fold")
    for name, recipe in recipes.items():
        summary = json.loads((folder / name / "summary.json").read_text())
        metrics = summary["metrics"]
        keys = by_name()[recipe].metrics if recipe in by_name() else metrics
        shown = [f"{key} {metrics[key]:.4f}" for key in keys if isinstance(metrics.get(key), (int, float))]
        made.add_row(name, output.duration(summary["seconds"]), "  ".join(shown))
    output.console().print(made)
