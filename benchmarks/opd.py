"""What on-policy distillation is worth after SFT: beside the same on the data's answers, and more SFT.

    python benchmarks/opd.py [--seeds 1 2 3] [--root runs] [OVERRIDE …]

Runs `experiment=laptop_opd` on `tiny_pl` once a seed, in the folders of benchmarks/laptop.py, whose students it takes where
they are finished. The teacher is fine-tuned on the student's dialogues; all go on from one SFT student with the same rate and
number of answers (conf/experiment/laptop_opd.yaml), and are measured alike: KL(student || teacher) in nats a token of the
student's own samples on held-out prompts, how often the likeliest token is the same, and the share of the prompts that a greedy
answer solves (those of docs/grpo.md). Writes `<root>/laptop/opd.json`.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import seeds
from rewards import share

ROWS = {  # name → the stage that measured it, before or after its steps
    "SFT": ("on_policy/opd", "first"),
    "more SFT": ("more/opd", "first"),
    "distillation on the data's answers": ("off_policy/opd", "last"),
    "on-policy distillation": ("on_policy/opd", "last"),
}


def main() -> int:
    folder, runs = seeds.run(__doc__, "laptop_opd", "laptop")
    found = {name: [row(run, *how) for run in runs.values()] for name, how in ROWS.items()}
    print(f"\n| | {' | '.join(f'KL, seed {seed}' for seed in runs)} | agreement | solved |")
    print("|---" * (3 + len(runs)) + "|")
    for name, of in found.items():
        kl, agreement, right, asked = zip(*of, strict=True)
        each = " | ".join(f"{value:.3f}" for value in kl)
        print(f"| {name} | {each} | {statistics.mean(agreement):.1%} | {share(sum(right), sum(asked))} |")
    (folder / "opd.json").write_text(json.dumps(found, indent=2) + "\n")
    return 0


def row(run: Path, measured: str, when: str) -> tuple[float, float, int, int]:
    """KL, agreement, prompts solved and asked."""
    metrics = json.loads((run / measured / "summary.json").read_text())["metrics"]
    steps = sorted((run / measured / "solved").glob("step=*.json"))
    solved = json.loads(steps[0 if when == "first" else -1].read_text())
    return metrics[when], metrics[f"agreement_{when}"], sum(solved), len(solved)


if __name__ == "__main__":
    sys.exit(main())
