"""What a search costs beside separate prunings, and how far its cheap ranking can be trusted.

    python benchmarks/search.py [--root runs] [--candidates 10] [--distill-steps 50] [OVERRIDE …]

Searches students of `tiny_pl` of about equal size (layers, FFN, hidden size and heads all free) from one calibration, then
prunes each of them by itself, in a run root of its own so that each calibrates anew; prints both times and their ratio. Then
distils every candidate for a while (not counted in the times) and prints the rank correlation of the losses before and after.
Writes `<root>/search-benchmark.json`.
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
    parser.add_argument("--distill-steps", type=int, default=50)
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every run")
    given = parser.parse_args()
    folder = Path(given.root) / "search-benchmark"
    shutil.rmtree(folder, ignore_errors=True)

    def recipe(name: str, *overrides: str) -> float:
        """Run a recipe. Returns its seconds."""
        command = [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), "+model=tiny_pl", "experiment=laptop"]
        start = time.monotonic()
        subprocess.run([*command, *overrides, *given.overrides], check=True)
        return time.monotonic() - start

    common = [f"run.root={folder}", "run.name=one", f"search.limit={given.candidates}", "prune.budget.frozen=[]"]
    recipe("convert", "convert.to=nemo", f"run.root={folder}", "run.name=one")
    teacher = f"teacher.path={folder / 'one' / 'convert-import' / 'checkpoint'}"
    together = recipe("search", *common)
    found = json.loads((folder / "one" / "search" / "summary.json").read_text())["candidates"]
    apart = 0.0
    for number, (name, candidate) in enumerate(found.items()):
        sizes = [f"prune.{key}={value}" for key, value in candidate.items() if key not in ("loss", "distilled")]
        root = folder / f"apart-{number}"
        apart += recipe("prune", f"run.root={root}", f"run.name={name}", teacher, *sizes)
        loss = json.loads((root / name / "prune" / "summary.json").read_text())["metrics"]["loss_after"]
        assert abs(loss - candidate["loss"]) < 1e-3, (name, loss, candidate["loss"])
    print(f"\n{len(found)} candidates of tiny_pl, each ranked by its held-out loss")
    print(f"  one search, one calibration        {together:7.0f} s")
    print(f"  as many prunings and calibrations  {apart:7.0f} s")
    print(f"  ratio                              {apart / together:7.1f}")

    recipe("search", *common, f"search.keep={len(found)}", f"search.distill_steps={given.distill_steps}", "force=true")
    summary = json.loads((folder / "one" / "search" / "summary.json").read_text())
    correlation = summary["metrics"]["rank_correlation"]
    print(f"\n{'candidate':<24} {'pruned':>8} {'distilled':>10}")
    for name in summary["ranking"]:
        print(f"{name:<24} {summary['candidates'][name]['loss']:8.4f} {summary['candidates'][name]['distilled']:10.4f}")
    said = "not defined" if correlation is None else f"{correlation:.2f}"
    print(f"\nRank correlation (Spearman) of {len(found)} candidates before and after {given.distill_steps} steps: {said}")
    measured = {"together_s": together, "apart_s": apart, "rank_correlation": correlation, "candidates": summary["candidates"]}
    (Path(given.root) / "search-benchmark.json").write_text(json.dumps(measured, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
