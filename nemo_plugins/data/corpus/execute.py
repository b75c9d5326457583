"""Runs stages: on this machine with all cores, or on a cluster by datatrove's Slurm executor.

Both are datatrove's: a task leaves its log, its stats and, last, a marker in `logs/<stage>/`, and one that has a marker is not
run again. Its own local executor is not used, for its manager process outlives a SIGKILL, and so would a second writer.
"""

from __future__ import annotations

import multiprocessing
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from datatrove.executor.base import PipelineExecutor

from nemo_plugins import runs
from nemo_plugins.configs.schema import CorpusEngine, Recipe, SlurmConfig
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data.corpus.duplicates import CorpusJob
from nemo_plugins.runs.workers import cores

LARGEST_ARRAY = 1000  # tasks of a Slurm job array; MaxArraySize is 1001 where a site has not changed it
BESIDE_OTHERS = 1  # datatrove's number of a task whose log does not go to the terminal


class Local(PipelineExecutor):
    """The tasks of one stage in this process or in a pool of them, which end with it."""

    def __init__(self, stage: CorpusJob, logs: Path):
        self.stage = stage
        super().__init__([], str(logs))

    @property
    def world_size(self) -> int:
        return self.stage.tasks

    def run(self, processes: int | None = None) -> None:
        """Run what is not done yet. Raises what a task raises, once no other is running."""
        missing = self.get_incomplete_ranks()
        done = self.stage.tasks - len(missing)
        processes = min(processes or cores(), len(missing))
        if not missing:
            return
        if self.stage.tasks == 1:  # in this process, with the progress of its own that it may have
            self.task(0)
            runs.say(f"{self.stage.name}: done")
            return
        with _progress() as progress:
            bar = progress.add_task(self.stage.name, total=self.stage.tasks, completed=done)
            for _ in self._finished(missing, processes):
                progress.advance(bar)

    def _finished(self, missing: Sequence[int], processes: int) -> Iterator[None]:
        """Runs tasks; one element for each that is done."""
        if processes <= 1:
            yield from map(self.task, missing)
            return
        # spawned, not forked: this process may have threads, and a spawned one ends with its parent (runs.end_with_parent)
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            running = [pool.submit(_task, self.stage, str(self.logging_dir.path), rank) for rank in missing]
            try:
                for future in as_completed(running):
                    yield future.result()
            except BrokenProcessPool as error:
                raise runs.Failed(
                    f"{self.stage.name}: a process was killed, perhaps for want of memory",
                    "the same command goes on with the tasks that are missing; corpus.workers=<fewer> takes less memory",
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def task(self, rank: int) -> None:
        self.pipeline = self.stage.pipeline()
        self._run_for_rank(rank, BESIDE_OTHERS)


def _task(stage: CorpusJob, logs: str, rank: int) -> None:
    Local(stage, Path(logs)).task(rank)


def _progress():
    """Tasks done of a stage, with the time they took and will take."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=runs.console())


def run(stages: Sequence[CorpusJob], logs: Path, cfg: Recipe) -> None:
    """Run the stages as `corpus.engine` says. Raises Stopped where Slurm has them and they have not ended yet."""
    if cfg.corpus.engine is not CorpusEngine.slurm:
        local(stages, logs, cfg.corpus.workers)
    elif waiting := slurm(stages, logs, cfg.corpus.slurm, str(cfg.run.name).replace("/", "-")):
        raise runs.Stopped(f"{waiting}; once they have ended")


def incomplete(stage: CorpusJob, logs: Path) -> int:
    """Tasks of a stage that have no marker."""
    return len(Local(stage, logs / stage.name).get_incomplete_ranks())


def local(stages: Sequence[CorpusJob], logs: Path, processes: int | None) -> None:
    """Run the stages one after the other."""
    for stage in stages:
        Local(stage, logs / stage.name).run(processes)


def slurm(stages: Sequence[CorpusJob], logs: Path, config: SlurmConfig, name: str) -> str | None:
    """Submit what is not done yet, each stage to start when the one before has ended well.

    Returns: what is running, in words; None where every stage is done.
    """
    from datatrove.executor import SlurmPipelineExecutor

    missing = [stage for stage in stages if incomplete(stage, logs)]
    if not missing:
        return None
    jobs = logs / "jobs.txt"
    submitted = jobs.read_text().split() if jobs.is_file() else []
    if running := _running(submitted):
        left = ", ".join(f"{stage.name} ({incomplete(stage, logs)} of {stage.tasks} tasks)" for stage in missing)
        return f"{len(running)} jobs are queued or run: {' '.join(running)}; still to do: {left}"
    before, executors = None, []
    for stage in missing:
        sbatch = {"kill-on-invalid-dep": "yes", **({"account": config.account} if config.account else {})}
        waiting = incomplete(stage, logs)
        before = SlurmPipelineExecutor(
            stage.pipeline(),
            stage.tasks,
            tasks_per_job=-(-waiting // LARGEST_ARRAY),  # one array: of several, the next stage would wait for the last alone
            time=config.time,
            partition=config.partition,
            cpus_per_task=config.cores if stage.name == "tokens" else 1,
            mem_per_cpu_gb=config.memory_gb,
            workers=config.at_once,
            job_name=f"{name}-{stage.name}",
            qos=config.qos,
            env_command=_environment(config),
            sbatch_args=sbatch,
            logging_dir=str((logs / stage.name).resolve()),
            depends=before,
            requeue_signals=None,
        )
        before.run()
        executors.append(str(before.job_id))
        jobs.write_text("\n".join(executors))  # after each: a second call finds what a first one that was stopped has submitted
    return f"{len(executors)} jobs were submitted: {' '.join(executors)}"


def _environment(config: SlurmConfig) -> str:
    """Shell lines that give a task this Python and this code."""
    path = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    code = f"export PYTHONPATH={shlex.quote(str(REPOSITORY))}:${{PYTHONPATH:-}}"
    return "\n".join(line for line in (config.setup, path, code) if line)


def _running(jobs: Sequence[str]) -> list[str]:
    """Those of the jobs that Slurm has not ended yet."""
    numbers = [job for job in jobs if re.fullmatch(r"\d+", job)]
    if not numbers:
        return []
    # of each its own number and that of the array that it is of
    asked = subprocess.run(["squeue", "--noheader", "--format=%A %F", "--me"], capture_output=True, text=True, check=True)
    return [job for job in numbers if job in asked.stdout.split()]
