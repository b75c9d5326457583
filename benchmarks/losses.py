"""Which distillation loss reaches the lowest held-out loss at equal tokens: kinds, mixes with CE, top-k, draws, temperature.

    python benchmarks/losses.py [--seeds 1 2 3] [--losses NAME …] [--root runs] [OVERRIDE …]

Prunes `tiny_pl` once a seed and distils that student with each loss of `LOSSES` as `experiment=laptop` does. The seed draws
calibration and training order. Held-out loss is cross-entropy in nats a token, the same text for all. What is finished is not
run again. Writes `<root>/losses/losses.json` and `losses.png`.
"""

from __future__ import annotations

import json
import statistics
import sys
from functools import partial
from pathlib import Path

import seeds

sys.path.insert(0, str(seeds.REPOSITORY))

LOSSES = {
    "forward KL": (),
    "reverse KL": ("kind=reverse_kl",),
    "Jensen–Shannon": ("kind=jsd",),
    "skewed KL, skew 0.1": ("kind=skewed_kl",),
    "forward KL, top 64": ("top_k=64",),
    "forward KL, temperature 2": ("temperature=2",),
    "forward KL, alpha 0.9": ("alpha=0.9",),
    "forward KL, alpha 0.5": ("alpha=0.5",),
    "forward KL, top 3": ("top_k=3",),  # 22 bytes a token in the files of a recorded teacher …
    "forward KL, 32 draws": ("draws=32",),  # … and 18 of these
}


def main() -> int:
    from nemo_plugins.reporting import plots

    parser = seeds.parser(__doc__)
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES), metavar="NAME")
    given = parser.parse_args()
    folder = Path(given.root) / "losses"
    reached: dict[str, list[float]] = {name: [] for name in LOSSES if name in given.losses}
    for seed in given.seeds:
        run = folder / f"seed-{seed}"
        recipe = partial(seeds.stage, run, seed, given.overrides)
        recipe("convert-import", "convert", "convert.to=nemo")
        recipe("prune", "prune")
        for number, (name, overrides) in enumerate(LOSSES.items()):
            if name not in reached:
                continue
            words = [f"distill.loss.{override}" for override in overrides]
            if "draws=32" in overrides:  # of a recorded teacher alone; the other losses are the same from files and live
                recipe("teacher-record", "distill", *words, "teacher.mode=record")
                words.append("teacher.mode=cached")
            metrics = recipe(f"distill-{number}", "distill", *words)
            reached[name].append(metrics["val_loss"])
            print(f"seed {seed}, {name}: {metrics['val_loss']:.4f}", flush=True)

    first = next(iter(reached.values()))
    mean = {name: statistics.mean(losses) for name, losses in reached.items()}
    print(f"\nHeld-out loss (nats a token) of {len(given.seeds)} seeds; difference to the first row, seed by seed\n")
    print(f"| loss | mean | {' | '.join(f'seed {seed}' for seed in given.seeds)} | to forward KL (range) |")
    print("|---" * (3 + len(given.seeds)) + "|")
    for name, losses in reached.items():
        apart = [one - base for one, base in zip(losses, first, strict=True)]
        spread = f"{statistics.mean(apart):+.4f} ({min(apart):+.4f} to {max(apart):+.4f})"
        print(f"| {name} | {mean[name]:.4f} | {' | '.join(f'{one:.4f}' for one in losses)} | {spread} |")
    (folder / "losses.json").write_text(json.dumps(reached, indent=2) + "\n")
    plots.losses(folder / "losses.png", mean, [], f"tiny_pl: held-out loss, mean of {len(given.seeds)} seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
