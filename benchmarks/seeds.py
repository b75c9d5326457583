"""A chain of `tiny_pl` run once a seed, for the benchmarks that compare seeds. What is finished is not run again."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def run(doc: str, experiment: str, name: str) -> tuple[Path, dict[int, Path]]:
    """Run the chain for every seed that the command line names.

    Args:
        doc: of the benchmark, for its help.
        name: of the folder below `--root` with a run `seed-N` for each.
    Returns: that folder, and the run folders by seed.

    Raises SystemExit with the exit code of the first chain that fails.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--root", default="runs")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every seed")
    given = parser.parse_args()
    command = [sys.executable, str(REPOSITORY / "recipes" / "minitron.py"), "+model=tiny_pl", f"experiment={experiment}"]
    for seed in given.seeds:
        own = [f"run.name={name}/seed-{seed}", f"run.root={given.root}", f"run.seed={seed}", *given.overrides]
        if code := subprocess.call([*command, *own]):
            sys.exit(code)
    folder = Path(given.root) / name
    return folder, {seed: folder / f"seed-{seed}" for seed in given.seeds}
