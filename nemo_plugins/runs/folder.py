"""The run folder of one stage: configuration, metrics and summary, written so that a file that is there is whole."""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.runs import locks, output, paths
from nemo_plugins.runs.atomic import write
from nemo_plugins.runs.errors import DONE, RESUMABLE, UserError
from nemo_plugins.runs.fingerprint import changed, fingerprint
from nemo_plugins.runs.workers import rank

PACKAGES = (
    "torch",
    "nemo-toolkit",
    "megatron-core",
    "nvidia-modelopt",
    "transformers",
    "lightning",
    "hydra-core",
    "numpy",
)
ELSEWHERE = ("model.recommended.", "model.source")  # they act through the sections that they fill
NOT_COMPARED = (*ELSEWHERE, "distill.prompts", "sft.prompts", "dpo.prompts")  # what is said to prompts changes no weight
# what a stage that goes on may be told anew: how often it saves and speaks, and what it does with a bad step
FREE = {"log_every", "checkpoint_every", "checkpoint_minutes", "keep_checkpoints", "keep_best", "stop_minutes"}
FREE |= {"bad_step", "spike"}
NOTES = "MINITRON_NOTES"  # in the environment of a Slurm job: where slurm/job.sh reads which folder this is, and who failed
WAIT = 120.0  # seconds that the other ranks give rank 0 to begin
HEARTBEAT = 10.0  # seconds between notes of the time used, which a kill would lose


def note_failure(code: int) -> None:
    """In a Slurm job, leave a line for slurm/job.sh: when, which rank, on which node, with what exit code."""
    folder = os.environ.get(NOTES)
    if folder and code not in (DONE, RESUMABLE) and Path(folder).is_dir():
        line = f"{time.time():.3f} {rank()} {os.environ.get('SLURMD_NODENAME', '-')} {code}\n"
        with (Path(folder) / "failed").open("a") as file:
            file.write(line)


class Run:
    """One stage's folder, `<run.root>/<run.name>/<stage>`.

    Attributes:
        folder: where the stage writes.
        is_writer: whether this process is the one that writes (rank 0).
        resuming: whether an earlier attempt of the same configuration logged a step; the same on every rank.
        failed: whether this attempt ended by an error: where it logged no step, another configuration may take the folder.
        summary: of a finished stage, its `summary.json`.
    """

    def __init__(self, cfg: Recipe, recipe: str, stage: str | None, reads: tuple[str, ...] = ()):
        """`stage` None is the run's own folder, as a chain has it; `reads` names the sections that decide what comes out."""
        self.cfg = cfg
        self.recipe = recipe
        self.stage = stage
        self.reads = (*reads, "run.seed")
        root = paths.run_root(cfg)
        self.folder = root / stage if stage else root
        self.is_writer = rank() == 0
        self.resuming = False
        self.failed = False
        self.inputs: dict[str, str] = {}
        self._begun: dict[str, str] = {}  # inputs of the attempt before
        self._lock: IO | None = None
        self._job = ""
        self._seconds = 0.0
        self._since = time.monotonic()
        self._noted = 0.0
        self._started = datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def summary(self) -> dict[str, Any] | None:
        file = self.folder / "summary.json"
        return json.loads(file.read_text()) if file.is_file() else None

    @property
    def finished(self) -> bool:
        return self.summary is not None

    def check(self, inputs: bool = True) -> None:
        """Hold the folder against this configuration.

        Args:
            inputs: whether those of a finished stage must be as they were.

        Raises:
            UserError: it belongs to another configuration, or an input of the finished stage has changed since.
        """
        if self.stage is None:
            return
        if (lines := self._differences()) and not self._worthless:
            state = "finished" if self.finished else "begun"
            raise UserError(f"{self.folder} was {state} with another configuration:", *lines, *self._ways_out())
        for path, then in ((self.summary or {}).get("inputs") or {}).items() if inputs else ():
            with contextlib.suppress(FileNotFoundError):  # an input may be gone once the stage is done
                if (now := fingerprint(path)) != then:
                    raise UserError(f"{self.folder} is finished, but its input {path} {changed(then, now)}", *self._ways_out())

    def begin(self) -> None:
        """Acquire the run folder: lock it and write `config.yaml`. The other ranks wait.

        An old folder is moved to another name first where `force` asks for it, or where it holds a failed attempt of another
        configuration.

        Raises:
            UserError: another process writes it, or `check` refuses.
        """
        restarted = int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0  # a requeued job goes on with what it forced before
        force = self.cfg.force and not restarted and self.stage is not None
        if not force:
            self.check()
        if not self.is_writer:
            self._follow()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if job := os.environ.get(NOTES):
            write(Path(job) / "folder", str(self.folder.resolve()))
        self._take_lock()
        if force or (self.stage is not None and self._worthless and self._differences()):
            self.put_aside()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        if self.stage is None:
            return
        self.resuming = self._logged
        write(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self._config())))
        state = self._state()
        self._started, self._seconds = state.get("started", self._started), state.get("seconds", 0.0)
        self._begun = state.get("inputs", {})
        self._note(_job())

    @property
    def _logged(self) -> bool:
        metrics = self.folder / "metrics.jsonl"
        return metrics.is_file() and metrics.stat().st_size > 0

    @property
    def _worthless(self) -> bool:
        """Whether all that is there is an attempt that failed before it logged a step."""
        return bool(self._state().get("failed")) and not self._logged and not self.finished

    def _differences(self) -> list[str]:
        """A line for each key of the folder's configuration that this one has another value of.

        A key that only one of them has, as another version of the code wrote it, says nothing where it is off.
        """
        file = self.folder / "config.yaml"
        if not file.is_file():
            return []
        before, now = self._compared(OmegaConf.to_container(OmegaConf.load(file))), self._compared(self._config())
        both = before.keys() & now.keys()
        differ = {key for key in before | now if (before[key] != now[key] if key in both else before.get(key) or now.get(key))}
        return [f"  {key}: {before.get(key)} there, {now.get(key)} asked for" for key in sorted(differ)]

    def put_aside(self) -> None:
        """Move the folder to `<stage>.old-<n>`."""
        if (self.folder / "config.yaml").is_file():
            taken = (int(old.suffix.removeprefix(".old-")) for old in self.folder.parent.glob(f"{self.folder.name}.old-*"))
            self.folder.rename(self.folder.with_name(f"{self.folder.name}.old-{max(taken, default=0) + 1}"))

    def input(self, path: str | Path, *, kept: bool = False) -> Path:
        """Record a file or folder that the stage reads. Returns it.

        Args:
            kept: what an earlier attempt made of it is taken over, as it is where logged steps are gone on from.

        Raises:
            UserError: it has changed since that attempt.
        """
        if self.is_writer:
            now = fingerprint(path)
            then = self._begun.get(str(path), now)
            if (kept or self.resuming) and then != now:
                raise UserError(f"{self.folder} was begun, but its input {path} {changed(then, now)}", *self._ways_out())
            self.inputs[str(path)] = now
            self._note()
        return Path(path)

    def log_metrics(self, *, step: int, **values: float | None) -> None:
        """Append one line to `metrics.jsonl`; a number that is not finite becomes null."""
        if not self.is_writer:
            return
        finite = {key: value if value is not None and math.isfinite(value) else None for key, value in values.items()}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **finite}) + "\n")
        if time.monotonic() - self._noted > HEARTBEAT:
            self._note()

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """The lines of `metrics.jsonl`."""
        return metrics(self.folder)

    def truncate_metrics(self, step: int) -> None:
        """Drop what was logged after `step`, the one that a resumed run goes on from: its curve does not show the stop."""
        if self.is_writer and (self.folder / "metrics.jsonl").is_file():
            kept = [json.dumps(line) + "\n" for line in self.read_metrics() if line["step"] <= step]
            write(self.folder / "metrics.jsonl", "".join(kept))

    def finish(
        self,
        outputs: Mapping[str, str | Path] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        next: str | list[str] | None = None,
        **block: Any,
    ) -> None:
        """Write `summary.json`, which says that the stage is done, and tell what was written.

        Args:
            outputs: what was written, by name.
            metrics: the numbers that sum the stage up.
            next: command or commands to go on with.
            **block: the stage's own part of the summary.
        """
        if not self.is_writer:
            return
        self._note()
        folder = self.folder.resolve()
        written = {name: Path(path).resolve() for name, path in (outputs or {}).items()}
        summary = {
            "stage": self.stage or self.recipe,
            "status": "done",
            "started": self._started,
            "seconds": round(self._seconds, 3),
            "command": shlex.join(["python", *sys.argv]),
            "inputs": self.inputs,
            "outputs": {n: str(p.relative_to(folder) if p.is_relative_to(folder) else p) for n, p in written.items()},
            "metrics": dict(metrics or {}),
            "versions": versions(),
            "peak_memory_bytes": peak_memory_bytes(),
            **block,
        }
        write(self.folder / "summary.json", json.dumps(summary, indent=2, default=_plain) + "\n")
        output.finished(self.folder, summary, [next] if isinstance(next, str) else next or [])

    def close(self) -> None:
        """Note the time used and let the folder go. A disk too full for the note takes no other error's place."""
        if self._job:
            self._job = ""
            with contextlib.suppress(OSError):
                self._note()
        if self._lock:
            self._lock.close()
            self._lock = None

    def _take_lock(self) -> None:
        if self._lock:
            self._lock.close()
        lock = (self.folder / ".lock").open("a+")
        try:
            locks.take(lock, wait=False)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise UserError(
                f"{self.folder} is being written by process {owner}", "wait for it, or give another run.name"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _state(self) -> dict[str, Any]:
        file = self.folder / "state.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def _follow(self) -> None:
        """Wait until rank 0 of the same job has the folder ready, and take its word on resuming."""
        deadline = time.monotonic() + WAIT
        while self.stage and self._state().get("job") != _job():
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"rank {rank()} waited {WAIT:g} s for rank 0 to begin {self.folder}; is it on a shared file system?"
                )
            time.sleep(0.05)
        self.resuming = self._state().get("resuming", False)

    def _note(self, job: str = "") -> None:
        now = time.monotonic()
        self._seconds, self._since, self._noted = self._seconds + now - self._since, now, now
        self._job = job or self._job
        if self.stage:
            state = {"started": self._started, "seconds": round(self._seconds, 3), "resuming": self.resuming, "job": self._job}
            state |= {"failed": True} if self.failed else {}
            write(self.folder / "state.json", json.dumps({**state, "inputs": self._begun | self.inputs}))

    def _config(self) -> dict[str, Any]:
        return OmegaConf.to_container(OmegaConf.structured(self.cfg), enum_to_str=True)

    def _compared(self, config: Mapping[str, Any]) -> dict[str, Any]:
        flat = dict(_flatten(config))
        mine = {
            key: value for key, value in flat.items() if any(key == part or key.startswith(f"{part}.") for part in self.reads)
        }
        return {
            key: value for key, value in mine.items() if not key.startswith(NOT_COMPARED) and key.rpartition(".")[2] not in FREE
        }

    def _ways_out(self) -> tuple[str, ...]:
        return ("force=true moves the folder aside and does the stage again; another run.name= keeps both",)


def metrics(stage: Path) -> Iterator[dict[str, Any]]:
    """The lines of a stage's `metrics.jsonl`; a last one that is half written is left out."""
    file = stage / "metrics.jsonl"
    for line in file.read_text().splitlines() if file.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def _job() -> str:
    """What the ranks of one job share and another job has not."""
    keys = ("MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "TORCHELASTIC_RUN_ID")
    return "/".join(["job", *(os.environ.get(key, "") for key in keys)])


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on, read from the installed packages without importing them."""
    here = {package: version for package in PACKAGES if (version := installed(package))}
    return {"python": ".".join(map(str, sys.version_info[:3])), **here}


def installed(package: str) -> str | None:
    """Version of a package, without importing it; None: not here."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def peak_memory_bytes() -> int:
    """Largest resident size of this process or of one that it started and waited for (Linux counts in KiB)."""
    # not getrusage's of this process, which begins with that of the process that started it
    status = Path("/proc/self/status").read_text().splitlines()
    own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return 1024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # a number of numpy or torch
        return value.item()
    return str(value)
