"""A chain of `tiny_pl`, or single stages, run once a seed, for the benchmarks that compare seeds.

What is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def parser(doc: str) -> argparse.ArgumentParser:
    """The options that all of them have; `doc`: of the benchmark, for its help."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    made.add_argument("--root", default="runs")
    made.add_argument("overrides", nargs="*", help="Hydra overrides for every seed")
    return made


def stage(run: Path, seed: int, shared: Sequence[str], name: str, recipe: str, *overrides: str) -> dict:
    """Run a recipe of `experiment=laptop` as stage `name` of the folder `<root>/<benchmark>/<run>`, unless it is finished.

    Args:
        shared: Hydra overrides of every stage; `overrides`: of this one.
    Returns: the stage's metrics.
    """
    summary = run / name / "summary.json"
    if not summary.exists():
        command = [sys.executable, str(REPOSITORY / "recipes" / f"{recipe}.py"), "+model=tiny_pl", "experiment=laptop"]
        where = [f"run.root={run.parent.parent}", f"run.name={run.parent.name}/{run.name}", f"run.stage={name}"]
        subprocess.run([*command, *where, f"run.seed={seed}", *shared, *overrides], check=True, stdout=subprocess.DEVNULL)
    return json.loads(summary.read_text())["metrics"]


def run(doc: str, experiment: str, name: str) -> tuple[Path, dict[int, Path]]:
    """Run the chain for every seed that the command line names.

    Args:
        doc: of the benchmark, for its help.
        name: of the folder below `--root` with a run `seed-N` for each.
    Returns: that folder, and the run folders by seed.

    Raises SystemExit with the exit code of the first chain that fails.
    """
    given = parser(doc).parse_args()
    command = [sys.executable, str(REPOSITORY / "recipes" / "minitron.py"), "+model=tiny_pl", f"experiment={experiment}"]
    for seed in given.seeds:
        own = [f"run.name={name}/seed-{seed}", f"run.root={given.root}", f"run.seed={seed}", *given.overrides]
        if code := subprocess.call([*command, *own]):
            sys.exit(code)
    folder = Path(given.root) / name
    return folder, {seed: folder / f"seed-{seed}" for seed in given.seeds}
