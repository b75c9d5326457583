"""What recording the teacher once saves: short distillations of several candidates, the teacher live against from files.

    python benchmarks/offline_teacher.py [--root runs] [--candidates 10] [--steps 50] [--top-k 64] [OVERRIDE …]

Prunes candidates of `tiny_pl` (the search's grid), then distils each of them alike with the whole teacher beside it, with its
top-k beside it, and from one recording, in turn. Candidates far below the budget are taken, too, where it takes them to be so
many. Prints wall and processor time of the commands (each starts NeMo, recording
included), the peak memory of a distillation, and the held-out losses. Writes `<root>/offline-teacher-benchmark.json`.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="runs")
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every run")
    given = parser.parse_args()
    folder = Path(given.root) / "offline-teacher-benchmark"
    shutil.rmtree(folder, ignore_errors=True)

    def recipe(name: str, *overrides: str) -> tuple[float, float]:
        """Run a recipe. Returns its seconds on the wall and of a processor."""
        command = [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), "+model=tiny_pl", "experiment=laptop"]
        start, used = time.monotonic(), processor_seconds()
        subprocess.run([*command, f"run.root={folder}", *overrides, *given.overrides], check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - start, processor_seconds() - used

    def summary(*parts: str) -> dict:
        return json.loads(folder.joinpath("one", *parts, "summary.json").read_text())

    recipe("convert", "convert.to=nemo", "run.name=one")
    recipe("search", "run.name=one", f"search.limit={given.candidates}", "search.slack=0.5")
    found = {
        name: [f"prune.{key}={value}" for key, value in candidate.items() if key not in ("loss", "distilled")]
        for name, candidate in summary("search")["candidates"].items()
    }
    for name, sizes in found.items():
        recipe("prune", f"run.name=one/{name}", *sizes)
    steps = [f"distill.max_steps={given.steps}", f"distill.validate_every={given.steps}", "distill.warmup_steps=5"]
    top_k = f"distill.loss.top_k={given.top_k}"
    ways = {
        "live": (),
        f"live, top {given.top_k}": (top_k,),
        f"recorded, top {given.top_k}": (top_k, "teacher.mode=cached"),
    }
    recording = recipe("distill", "run.name=one", "teacher.mode=record", top_k, *steps)
    told = summary("teacher-record")
    size = told["metrics"]["bytes_per_token"] * told["data"]["tokens"]
    print(f"recorded {told['data']['tokens']:,} tokens in {recording[0]:.0f} s, {size / 1e6:,.1f} MB", flush=True)
    measured = {way: {"seconds": 0.0, "processor_seconds": 0.0, "peak_memory_bytes": 0, "val_loss": {}} for way in ways}
    for way, of in measured.items():
        if "recorded" in way:
            of["seconds"], of["processor_seconds"] = recording
    for name, sizes in found.items():
        for number, (way, overrides) in enumerate(ways.items()):
            stage, of = f"distill-{number}", measured[way]
            wall, used = recipe("distill", f"run.name=one/{name}", f"run.stage={stage}", *overrides, *steps, *sizes)
            ended = summary(name, stage)
            of["seconds"] += wall
            of["processor_seconds"] += used
            of["peak_memory_bytes"] = max(of["peak_memory_bytes"], ended["peak_memory_bytes"])
            of["val_loss"][name] = ended["metrics"]["val_loss"]
            print(f"{name}, {way}: {wall:.0f} s, {used:.0f} s of a processor", flush=True)

    live = measured[next(iter(ways))]
    print(f"\n{len(found)} distillations of {given.steps} steps each; recording is counted where it is used\n")
    print("| teacher | time | to live | processor time | to live | peak memory | to live | mean held-out loss |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for way, of in measured.items():
        mean = sum(of["val_loss"].values()) / len(of["val_loss"])
        times = " | ".join(f"{of[key]:,.0f} s | {of[key] / live[key]:.2f}" for key in ("seconds", "processor_seconds"))
        memory = f"{of['peak_memory_bytes'] / 2**20:,.0f} MiB | {of['peak_memory_bytes'] / live['peak_memory_bytes']:.2f}"
        print(f"| {way} | {times} | {memory} | {mean:.4f} |")
    (Path(given.root) / "offline-teacher-benchmark.json").write_text(json.dumps(measured, indent=2) + "\n")
    return 0


def processor_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
