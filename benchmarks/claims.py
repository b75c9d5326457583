"""The paper's claim in miniature, over several seeds: held-out loss of teacher, pruned, distilled and the baselines.

    python benchmarks/claims.py [--seeds 1 2 3] [--root runs] [OVERRIDE …]

Runs `experiment=laptop_claims` on `tiny_pl` once a seed (the seed draws calibration and training order, the random baseline and
the random start of the from-scratch model; the teacher is the same) and prints the table that the README quotes. What is
finished is not run again. Writes `<root>/claims/claims.json` and `claims.png`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))


def main() -> int:
    from nemo_plugins.reporting import chain, plots

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--root", default="runs")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every seed")
    given = parser.parse_args()
    folder, reports = Path(given.root) / "claims", []
    for seed in given.seeds:
        command = [sys.executable, str(REPOSITORY / "recipes" / "minitron.py"), "+model=tiny_pl", "experiment=laptop_claims"]
        command += [f"run.name=claims/seed-{seed}", f"run.root={given.root}", f"run.seed={seed}", *given.overrides]
        if code := subprocess.call(command):
            return code
        reports.append(json.loads((folder / f"seed-{seed}" / "report.json").read_text()))

    losses = {name: [report["heldout_loss"][name] for report in reports] for name in chain.MODELS}
    mean = {name: statistics.mean(values) for name, values in losses.items()}
    shares = [report["recovered"] for report in reports]
    print(f"\nHeld-out loss of {len(reports)} seeds (nats a token)\n")
    print(f"| model | mean | {' | '.join(f'seed {seed}' for seed in given.seeds)} |")
    print("|---" * (2 + len(reports)) + "|")
    for name, values in losses.items():
        print(f"| {name} | {mean[name]:.3f} | {' | '.join(f'{value:.3f}' for value in values)} |")
    if None not in shares:
        print(f"\nDistillation won back {', '.join(f'{share:.1%}' for share in shares)} of what pruning cost.")
    for number, claim in enumerate(reports[0]["claims"]):
        holds = sum(report["claims"][number]["holds"] for report in reports)
        print(f"{holds} of {len(reports)} seeds: {claim['text']}")
    (folder / "claims.json").write_text(json.dumps({"losses": losses, "recovered": shares}, indent=2) + "\n")
    baselines = [name for name, (_, _, is_baseline) in chain.MODELS.items() if is_baseline]
    plots.losses(folder / "claims.png", mean, baselines, f"tiny_pl: held-out loss, mean of {len(reports)} seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
