"""The paper's claim in miniature, over several seeds: held-out loss of teacher, pruned, distilled and the baselines.

    python benchmarks/claims.py [--seeds 1 2 3] [--root runs] [OVERRIDE …]

Runs `experiment=laptop_claims` on `tiny_pl` once a seed (the seed draws calibration and training order, the random baseline and
the random start of the from-scratch model; the teacher is the same) and prints the table that the README quotes. What is
finished is not run again. Writes `<root>/claims/claims.json` and `claims.png`.
"""

from __future__ import annotations

import json
import statistics
import sys

import seeds

sys.path.insert(0, str(seeds.REPOSITORY))


def main() -> int:
    from nemo_plugins.reporting import heldout_losses, plots

    folder, runs = seeds.run(__doc__, "laptop_claims", "claims")
    reports = [json.loads((run / "report.json").read_text()) for run in runs.values()]

    losses = {name: [report["heldout_loss"][name] for report in reports] for name in heldout_losses.MODELS}
    mean = {name: statistics.mean(values) for name, values in losses.items()}
    shares = [report["recovered"] for report in reports]
    print(f"\nHeld-out loss of {len(reports)} seeds (nats a token)\n")
    print(f"| model | mean | {' | '.join(f'seed {seed}' for seed in runs)} |")
    print("|---" * (2 + len(reports)) + "|")
    for name, values in losses.items():
        print(f"| {name} | {mean[name]:.3f} | {' | '.join(f'{value:.3f}' for value in values)} |")
    if None not in shares:
        print(f"\nDistillation won back {', '.join(f'{share:.1%}' for share in shares)} of what pruning cost.")
    for number, claim in enumerate(reports[0]["claims"]):
        holds = sum(report["claims"][number]["holds"] for report in reports)
        print(f"{holds} of {len(reports)} seeds: {claim['text']}")
    (folder / "claims.json").write_text(json.dumps({"losses": losses, "recovered": shares}, indent=2) + "\n")
    plots.losses(folder / "claims.png", mean, heldout_losses.BASELINES, f"tiny_pl: held-out loss, mean of {len(reports)} seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
