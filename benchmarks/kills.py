"""Kill a distillation at random instants until it is done, then hold it against one that nobody touched.

    python benchmarks/kills.py [--root runs] [--kills 50] [--steps 60] [--seed 0] [--small-disk DIR] [OVERRIDE …]

Signals take turns: SIGKILL, SIGTERM, SIGUSR1; the instant is drawn over the time that a start and some steps take. In the end
weights and optimizer must be bit-equal, the curves the same, and nothing half-written may lie about. Exit code 1 otherwise.
A run that finishes before all kills were spent begins again under another name.

`--small-disk` names an empty file system of some 500 MB (`mount -t tmpfs -o size=500m none DIR`): a last run there finds it
full after its first checkpoints, must end with exit code 2, and must go on as if nothing had been once there is room again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
KEYS = ("step", "loss", "kd_loss", "ce", "agreement", "grad_norm", "lr", "val_loss", "val_kl", "val_agreement")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="runs")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small-disk", type=Path)
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every run")
    given = parser.parse_args()
    folder = Path(given.root) / "kills-benchmark"
    shutil.rmtree(folder, ignore_errors=True)
    draw = random.Random(given.seed)
    sizes = ["distill.seq_length=64", "distill.micro_batch_size=4", "distill.global_batch_size=8", "data.heldout_samples=32"]
    often = [f"distill.max_steps={given.steps}", "distill.checkpoint_every=3", f"distill.validate_every={given.steps // 4}"]

    def command(recipe: str, *overrides: str) -> list[str]:
        start = [sys.executable, str(REPOSITORY / "recipes" / f"{recipe}.py"), "+model=tiny_pl", "experiment=laptop"]
        return [*start, f"run.root={folder}", *sizes, *often, *overrides, *given.overrides]

    quiet = {"stdout": subprocess.DEVNULL}
    subprocess.run(command("prune", "run.name=straight", "prune.calibration.samples=8"), check=True, **quiet)
    begin = time.monotonic()
    subprocess.run(command("distill", "run.name=straight"), check=True, **quiet)
    whole = time.monotonic() - begin

    kills = attempt = 0
    wrong: list[str] = []
    while kills < given.kills:
        name = f"straight/killed-{attempt}"
        attempt += 1
        while True:
            stage = subprocess.Popen(command("distill", f"run.name={name}"), start_new_session=True, **quiet)
            number = SIGNALS[kills % len(SIGNALS)]
            try:
                code = stage.wait(draw.uniform(0.1, whole) if kills < given.kills else None)
                break
            except subprocess.TimeoutExpired:
                stage.send_signal(number)
                code = stage.wait()
                kills += 1
                reached = sorted(path.name for path in (folder / name / "distill" / "steps").glob("step=*"))
                print(f"kill {kills}: {number.name}, exit code {code}, checkpoints {', '.join(reached) or 'none'}", flush=True)
                done = (folder / name / "distill" / "summary.json").is_file()
                # −number: before Python had its handlers; 0: it was done anyway
                if code not in (75, -number) and not (code == 0 and done):
                    wrong.append(f"kill {kills} ({number.name}) ended with exit code {code}")
        if code:
            wrong.append(f"{name} ended with exit code {code}")
            break
        wrong += differences(folder / "straight" / "distill", folder / name / "distill")
    if given.small_disk:
        wrong += full_disk(command, folder, given.small_disk)
    said = "; ".join(wrong) or "every run equal to the straight one"
    print(f"\n{kills} kills over {attempt} runs of {given.steps} steps: {said}")
    return 1 if wrong else 0


def full_disk(command: Callable[..., list[str]], folder: Path, disk: Path) -> list[str]:
    """What goes wrong where a run's disk is filled by others and freed again."""
    shutil.copytree(folder / "straight" / "prune", disk / "straight" / "prune")
    run, filler = disk / "straight" / "distill", disk / "filler"
    again = [*command("distill", "run.name=straight"), f"run.root={disk}"]
    stage = subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while stage.poll() is None and not any((run / "steps").glob("step=*")):
        time.sleep(0.1)
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while stage.poll() is None:  # what it removes in between is taken, too
            file.write(bytes(2**20))
            file.flush()
    said = stage.communicate()[1].strip().splitlines()
    print(f"full disk: exit code {stage.returncode}: {' '.join(said[-2:])}", flush=True)
    filler.unlink()
    wrong = [] if stage.returncode == 2 else [f"a full disk ended with exit code {stage.returncode}"]
    if code := subprocess.call(again, stdout=subprocess.DEVNULL):
        return [*wrong, f"with room again it ended with exit code {code}"]
    return wrong + differences(folder / "straight" / "distill", run)


def differences(straight: Path, killed: Path) -> list[str]:
    """What tells a run that was killed from the straight one."""
    found = [f"{killed}: {left} lies about" for left in orphans(killed)]
    curves = [
        [{key: line.get(key) for key in KEYS} for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())]
        for run in (straight, killed)
    ]
    if curves[0] != curves[1]:
        found.append(f"{killed}: another curve")
    newest = [max((run / "steps").glob("step=*")) for run in (straight, killed)]
    one, two = map(tensors, newest)
    if one.keys() != two.keys() or any(not one[name].equal(two[name]) for name in one):
        found.append(f"{killed}: other weights or optimizer state")
    return found


def orphans(folder: Path) -> list[str]:
    """Names of half-written or half-removed things below a finished stage."""
    known = {".lock", ".metadata"}  # ours, and the one of torch's checkpoints
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name not in known and (path.name.startswith(".") or path.suffix in (".partial", ".discarded"))
    ]


def tensors(checkpoint: Path) -> dict:
    """Every stored tensor of a NeMo checkpoint by name, optimizer state included."""
    import torch
    from torch.distributed.checkpoint import FileSystemReader, load
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader = FileSystemReader(checkpoint / "weights")
    stored = reader.read_metadata().state_dict_metadata
    state = {
        name: torch.empty(of.size, dtype=of.properties.dtype)
        for name, of in stored.items()
        if isinstance(of, TensorStorageMetadata)
    }
    load(state, storage_reader=reader, no_dist=True)
    return state


if __name__ == "__main__":
    sys.exit(main())
