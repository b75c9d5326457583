"""One command for a bare machine with one GPU: what was only ever run on a CPU, in order of worth, within ten minutes.

    python tests/gpu/silicon.py --plan                             the parts and their seconds; starts nothing
    python tests/gpu/silicon.py --results silicon.json             all of them, from the repository's root
    python tests/gpu/silicon.py kd decode                          some, by name; what passed before is kept
    python tests/gpu/silicon.py --rehearsal --results try.json     the same on a CPU at tiny sizes
    python tests/gpu/silicon.py --table silicon.json               the table of tests/gpu/README.md

--packages FOLDER (or PACKAGES): a folder of archives NAME.tar.xz, each unpacked and put on PYTHONPATH, for a machine that has
torch and no more. One called te.tar.xz is Transformer Engine, used when the part `te` passes. Without it: the environment as
it is, and the parts without Transformer Engine are those of an environment that has none.

Every part has its own limit, log and line, and none stops the next. Parts whose figures are no times run at the same time, the
others alone. Exit code 0: every part passed or is not for this machine; 1: one did not; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
FIGURE, MACHINE = "FIGURE ", "MACHINE "  # how a line of a part's output begins that is JSON
NOT_HERE = 5  # exit code of a part whose package or device this machine lacks
LIMIT = 575  # seconds of one call
LEAST = 10  # seconds: with less left no part begins


@dataclass(frozen=True)
class Part:
    name: str
    seconds: int  # limit
    what: str
    needs: tuple[str, ...] = ()  # parts that must have passed
    together: bool = False  # runs at the same time as its neighbours that say so
    plain: bool = False  # without Transformer Engine


PARTS = (
    Part("machine", 20, "device and versions"),
    Part("te", 40, "Transformer Engine: RMSNorm with a linear layer, and attention, against torch"),
    Part("chain-te", 215, "tiny_pl: convert, prune, distill, SFT (thd), DPO, GRPO, export", ("te",), together=True),
    Part("chain-plain", 215, "the same without Transformer Engine", together=True, plain=True),
    Part("wide-prune", 150, "8 layers of Bielik's widths, random weights, pruned to 6 at 4,096 tokens", together=True),
    Part("full-prune", 215, "the whole 11B of random weights pruned to 40 layers and FFN 11,264", together=True),
    Part("exports", 120, "tiny_pl as GGUF and FP8, and its evaluation", together=True),
    Part("wide-distill", 90, "distillation at those widths: tokens/s, MFU, memory against the plan", ("wide-prune",)),
    Part("kd", 60, "the loss's kernel: share of the copy bandwidth; against torch, NeMo's LogitsKLLoss and Liger's"),
    Part("decode", 30, "tokens a second of the 11B's and the 7B's shapes"),
    Part("distill-peer", 70, "the same distillation by NeMo's own llm.distill", ("wide-distill",)),
    Part("rollouts", 50, "GRPO completions against transformers' generate"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="which, default all that did not pass yet")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--table", type=Path, metavar="RESULTS")
    parser.add_argument("--results", type=Path, default=Path("runs/silicon.json"))
    parser.add_argument("--root", type=Path, help="folder of the runs and logs, kept between calls")
    parser.add_argument("--packages", type=Path, default=os.environ.get("PACKAGES") and Path(os.environ["PACKAGES"]))
    parser.add_argument("--limit", type=int, default=LIMIT, help="seconds after which no part goes on")
    parser.add_argument("--rehearsal", action="store_true", help="on the CPU, at tiny sizes")
    given = parser.parse_args()
    names = [part.name for part in PARTS]
    if wrong := [name for name in given.parts if name not in names]:
        parser.error(f"no part {', '.join(wrong)}: expected some of {', '.join(names)}")
    if given.packages and not given.packages.is_dir():
        parser.error(f"--packages {given.packages}: expected a folder of archives NAME.tar.xz")
    if given.table and not given.table.is_file():
        parser.error(f"--table {given.table}: expected the file that --results left")
    if given.table:
        print(table(json.loads(given.table.read_text(encoding="utf-8"))))
        return 0
    chosen = [part for part in PARTS if not given.parts or part.name in given.parts]
    if given.plan:
        print(plan(chosen))
        return 0
    given.results.parent.mkdir(parents=True, exist_ok=True)
    return Session(given).run(chosen)


def groups(parts: list[Part]) -> list[list[Part]]:
    """Parts that run at the same time, in order."""
    made: list[list[Part]] = []
    for part in parts:
        if made and part.together and made[-1][0].together:
            made[-1].append(part)
        else:
            made.append([part])
    return made


def seconds(parts: list[Part]) -> int:
    """At most, of all."""
    return sum(max(part.seconds for part in group) for group in groups(parts))


def plan(parts: list[Part]) -> str:
    lines, at = ["| from | limit | part | what |", "|---:|---:|---|---|"], 0
    for group in groups(parts):
        for part in group:
            lines.append(f"| {at} s | {part.seconds} s | `{part.name}` | {part.what} |")
        at += max(part.seconds for part in group)
    return "\n".join([*lines, f"\n{at} s at most, of {LIMIT}"])


class Session:
    """The parts of one call, and the file of all calls' results."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.began = time.monotonic()
        self.given = given
        self.root = (given.root or Path(shared_memory() or REPOSITORY / "runs", "silicon")).resolve()
        self.logs = self.root / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        before = given.results.read_text(encoding="utf-8") if given.results.is_file() else "{}"
        self.results = {"machine": {}, "rehearsal": given.rehearsal, "parts": {}} | json.loads(before)
        if self.results["rehearsal"] != given.rehearsal:
            sys.exit(
                f"{given.results} is of a {'rehearsal' if self.results['rehearsal'] else 'GPU'}: expected another --results"
            )
        self.folders = self.unpack(given.packages) if given.packages else {}

    def unpack(self, packages: Path) -> dict[str, Path]:
        """Where each archive's modules are, by its name."""
        folders = {}
        for archive in sorted(packages.glob("*.tar.xz")):
            folder = self.root / "packages" / archive.name.removesuffix(".tar.xz")
            if not folder.is_dir():
                partial = folder.with_name(folder.name + ".partial")
                shutil.rmtree(partial, ignore_errors=True)
                with tarfile.open(archive) as file:
                    file.extractall(partial, filter="data")
                compileall.compile_dir(partial, quiet=2, workers=0)  # else each of the parts that start at once does it
                partial.rename(folder)
            folders[folder.name] = folder
        return folders

    def run(self, chosen: list[Part]) -> int:
        """Exit code."""
        if self.given.parts:
            first = [part for part in PARTS if part.name == "machine" and self.status("machine") != "passed"]
            chosen = [*first, *(part for part in chosen if part not in first)]
        else:
            chosen = [part for part in chosen if self.status(part.name) != "passed"]
        one_by_one = [[part] for part in chosen]  # in a rehearsal: a laptop's memory
        for group in one_by_one if self.given.rehearsal else groups(chosen):
            running = [(part, *self.start(part)) for part in group if self.may_start(part)]
            while running:
                time.sleep(0.2)
                running = [(part, process, began) for part, process, began in running if not self.ended(part, process, began)]
        return int(any(self.status(part.name) not in ("passed", "not for this machine") for part in chosen))

    def status(self, name: str) -> str | None:
        return self.results["parts"].get(name, {}).get("status")

    def left(self) -> float:
        return self.given.limit - (time.monotonic() - self.began)

    def may_start(self, part: Part) -> bool:
        lacking = [name for name in part.needs if self.status(name) != "passed"]
        if self.status("machine") == "not for this machine" and part.name != "machine":
            self.save(part, "not for this machine", 0, why="it has no GPU that torch sees")
        elif lacking:
            missing = all(self.status(name) == "not for this machine" for name in lacking)
            self.save(part, "not for this machine" if missing else "not run", 0, why=f"{', '.join(lacking)} did not pass")
        elif self.left() < LEAST:
            self.save(part, "not run", 0, why=f"{self.given.limit} s are over")
        else:
            return True
        return False

    def start(self, part: Part) -> tuple[subprocess.Popen, float]:
        with_te = not part.plain and (part.name == "te" or self.status("te") == "passed")
        folders = [str(folder) for name, folder in self.folders.items() if with_te or name != "te"]
        path = os.pathsep.join([str(REPOSITORY), *reversed(folders), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {
            "PYTHONPATH": path,
            "SILICON_ROOT": str(self.root),
            "SILICON_REHEARSAL": "1" if self.given.rehearsal else "",
            "HYDRA_FULL_ERROR": "1",
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        }
        if Path("/usr/local/cuda").is_dir():
            environment.setdefault("CUDA_HOME", "/usr/local/cuda")
        if self.given.rehearsal:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        with open(self.logs / f"{part.name}.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "silicon_parts.py"), part.name],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process, time.monotonic()

    def ended(self, part: Part, process: subprocess.Popen, began: float) -> bool:
        """Whether it did, or was ended for its limit; then its results are in the file."""
        spent = time.monotonic() - began
        limit = float("inf") if self.given.rehearsal else part.seconds  # a CPU's seconds say nothing about a GPU's
        code = process.poll()
        if code is None and spent < limit and self.left() > 0:
            return False
        if code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        states = {None: "timed out", 0: "passed", NOT_HERE: "not for this machine"}
        self.save(part, states.get(code, "failed"), spent, code=code)
        return True

    def save(self, part: Part, status: str, spent: float, **more: object) -> None:
        """Into the file, and one line on the screen."""
        log = self.logs / f"{part.name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if spent and log.is_file() else []
        figures = [json.loads(line.removeprefix(FIGURE)) for line in lines if line.startswith(FIGURE)]
        for line in lines:
            if line.startswith(MACHINE):
                self.results["machine"] = json.loads(line.removeprefix(MACHINE))
        entry = {
            "status": status,
            "date": today(),
            "seconds": round(spent, 1),
            "limit": part.seconds,
            "figures": figures,
            **more,
        }
        if status in ("failed", "timed out"):
            entry["log"] = lines[-40:]
        self.results["parts"][part.name] = entry
        partial = self.given.results.with_name(self.given.results.name + ".partial")
        partial.write_text(json.dumps(self.results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(self.given.results)
        found = "; ".join(f"{f['name']} {number(f['value'])} {f['unit']}".strip() for f in figures)
        print(
            f"[{time.monotonic() - self.began:4.0f} s] {part.name}: {status} in {spent:.0f} s{': ' if found else ''}{found}",
            flush=True,
        )
        for line in entry.get("log", [])[-12:]:
            print(f"    {line}", flush=True)


def table(results: dict) -> str:
    """What tests/gpu/README.md has of a results file."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items())
    title = f"{machine.get('device', 'device not known')}{' (a rehearsal)' if results.get('rehearsal') else ''}: {versions}"
    lines = [
        title,
        "",
        "| part | date | figure | value | held against | its value | ratio |",
        "|---|---|---|---:|---|---:|---:|",
    ]
    for part in PARTS:
        entry = results["parts"].get(part.name)
        if entry is None:
            continue
        if not entry["figures"] or entry["status"] != "passed":
            why = f": {entry['why']}" if "why" in entry else ""
            lines.append(f"| `{part.name}` | {entry['date']} | {entry['status']}{why} | | | | |")
        for figure in entry["figures"]:
            against, other = figure.get("against") or "", figure.get("other")
            ratio = f"{figure['value'] / other:.2f}" if other else ""
            shown = f"{number(figure['value'])} {figure['unit']}".strip()
            beside = "" if other is None else f"{number(other)} {figure['unit']}".strip()
            lines.append(f"| `{part.name}` | {entry['date']} | {figure['name']} | {shown} | {against} | {beside} | {ratio} |")
    absent = [f"`{part.name}`" for part in PARTS if part.name not in results["parts"]]
    return "\n".join([*lines, *(["", f"Not run: {', '.join(absent)}."] if absent else [])])


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def shared_memory() -> str | None:
    """/dev/shm where it has room for the 11B twice."""
    shm = Path("/dev/shm")
    return str(shm) if shm.is_dir() and shutil.disk_usage(shm).free > 60 * 2**30 else None


if __name__ == "__main__":
    sys.exit(main())
