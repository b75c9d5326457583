"""What recording the teacher once saves: short distillations of several candidates, the teacher live against from files.

    python benchmarks/offline_teacher.py [--root runs] [--candidates 10] [--steps 50] [--top-k 64] [OVERRIDE …]

Prunes candidates of `tiny_pl` (the search's grid), then distils each of them alike with the whole teacher beside it, with its
top-k beside it, and from one recording. Prints wall time of the commands (each starts NeMo, recording included), the peak
memory of a distillation, and the held-out losses. Writes `<root>/offline-teacher-benchmark.json`.
"""

from __future__ import annotations

import argparse
import json
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

    def recipe(name: str, *overrides: str) -> float:
        """Run a recipe. Returns its seconds."""
        command = [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), "+model=tiny_pl", "experiment=laptop"]
        start = time.monotonic()
        subprocess.run([*command, f"run.root={folder}", *overrides, *given.overrides], check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - start

    def summary(*parts: str) -> dict:
        return json.loads(folder.joinpath("one", *parts, "summary.json").read_text())

    recipe("convert", "convert.to=nemo", "run.name=one")
    recipe("search", "run.name=one", f"search.limit={given.candidates}")
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
    print(f"recorded {told['data']['tokens']:,} tokens in {recording:.0f} s, {size / 1e6:,.1f} MB", flush=True)
    measured: dict[str, dict] = {}
    for number, (way, overrides) in enumerate(ways.items()):
        seconds, memory, losses = 0.0, 0, {}
        for name, sizes in found.items():
            stage = f"distill-{number}"
            seconds += recipe("distill", f"run.name=one/{name}", f"run.stage={stage}", *overrides, *steps, *sizes)
            ended = summary(name, stage)
            memory, losses[name] = max(memory, ended["peak_memory_bytes"]), ended["metrics"]["val_loss"]
        seconds += recording if "recorded" in way else 0.0
        measured[way] = {"seconds": seconds, "peak_memory_bytes": memory, "val_loss": losses}
        print(f"{way}: {seconds:.0f} s", flush=True)

    live = measured["live"]
    print(f"\n{len(found)} distillations of {given.steps} steps each; recording is counted where it is used\n")
    print("| teacher | time | to live | peak memory | to live | mean held-out loss |")
    print("|---|---:|---:|---:|---:|---:|")
    for way, of in measured.items():
        mean = sum(of["val_loss"].values()) / len(of["val_loss"])
        time_ratio, memory_ratio = (of[key] / live[key] for key in ("seconds", "peak_memory_bytes"))
        memory = f"{of['peak_memory_bytes'] / 2**20:,.0f} MiB | {memory_ratio:.2f}"
        print(f"| {way} | {of['seconds']:,.0f} s | {time_ratio:.2f} | {memory} | {mean:.4f} |")
    (Path(given.root) / "offline-teacher-benchmark.json").write_text(json.dumps(measured, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
