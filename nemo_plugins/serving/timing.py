"""Models in processes of their own, timed in turns: what one repetition took, and what many come to."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.platforms.gpus import device_files
from nemo_plugins.runs.children import WORKER
from nemo_plugins.runs.errors import Failed

RAPL = Path("/sys/class/powercap")  # Linux's counters of a processor's energy


@dataclass(frozen=True)
class Once:
    """One repetition. Seconds; tokens a second of all sequences together, from the request to the last token."""

    first: float
    each: float
    tokens_per_second: float
    joules: float | None


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a number over the repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high)


class Process:
    """A model in a process of its own (`nemo_plugins.serving.worker`).

    Args:
        asked: backend, path, context, sequences, threads.
        log: file that gets what its libraries say.
    Raises:
        Failed: it cannot load the model.
    """

    def __init__(self, asked: Mapping[str, object], log: Path):
        self.what = f"{asked['backend']} on {asked['path']}"
        with log.open("a") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nemo_plugins.serving.worker", json.dumps(asked)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, cwd=Path.cwd(),
                env={**os.environ, WORKER: "1", "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
            )  # fmt: skip
        self.peak_bytes: dict[str, int] = {}
        if not self.process.stdin or not self.process.stdout:
            raise ValueError("the worker has no pipes")
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self._read()

    def time(self, sequences: int, prompt_tokens: int, new_tokens: int) -> Once:
        """One repetition. Raises Failed."""
        before = energy()
        self.requests.write(
            json.dumps({"sequences": sequences, "prompt_tokens": prompt_tokens, "new_tokens": new_tokens}) + "\n"
        )
        self.requests.flush()
        clock = self._read()["clock"]
        after = energy()
        if len(clock) < 3:
            raise Failed(f"{self.what} gave {len(clock) - 1} tokens where {new_tokens} were asked for")
        return Once(
            first=clock[1] - clock[0],
            each=(clock[-1] - clock[1]) / (len(clock) - 2),
            tokens_per_second=sequences * (len(clock) - 1) / (clock[-1] - clock[0]),
            joules=None if before is None or after is None else after - before,
        )

    def close(self) -> None:
        """End the process."""
        self.requests.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _read(self) -> dict:
        line = self.answers.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"it ended with exit code {self.process.wait()}"}
        if "error" in answer:
            self.process.kill()
            raise Failed(f"{self.what}: {answer['error']}", "what its libraries said is in log.txt")
        self.peak_bytes = answer["peak_bytes"]
        return answer


def in_turns(
    models: Mapping[str, Process], *, sequences: int, prompt_tokens: int, new_tokens: int, warmup: int, repetitions: int
) -> dict[str, list[Once]]:
    """Time models one after the other, again and again, so that whatever else the machine does meets all alike."""
    timings: dict[str, list[Once]] = {name: [] for name in models}
    for number in range(warmup + repetitions):
        for name, model in models.items():
            once = model.time(sequences, prompt_tokens, new_tokens)
            if number >= warmup:
                timings[name].append(once)
    return timings


def energy() -> float | None:
    """Joules that the processors and NVIDIA GPUs have taken since some time ago; None where no counter can be read."""
    readings = []
    for counter in sorted(RAPL.glob("intel-rapl:[0-9]*/energy_uj")):
        if counter.parent.name.count(":") == 1 and os.access(counter, os.R_OK):  # whole packages, not their parts
            readings.append(int(counter.read_text()) / 1e6)
    if device_files():
        import pynvml

        try:
            pynvml.nvmlInit()
            for number in range(pynvml.nvmlDeviceGetCount()):
                readings.append(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(number)) / 1e3)
        except pynvml.NVMLError:  # older than Volta, or hidden from this container
            pass
    return sum(readings) if readings else None
