"""Whether training by rewards solves more held-out prompts than the student it starts from: GRPO and Dr. GRPO, some seeds.

    python benchmarks/rewards.py --root runs [--run tiny_pl-laptop] [--seeds 1 2 3] [--kinds grpo dr_grpo] [OVERRIDE …]

Starts from what `experiment=laptop` left after DPO-P. Accuracy is the share of held-out prompts whose greedy answer earns the
whole reward of its kind, with its 95 % interval; before is the same student on the same prompts. `together` is McNemar's exact
test of the seeds: of the prompts that only one of the two solves, how likely so uneven a split is by chance. Drawn are the
shares of sampled answers that earn the whole reward in the first five and the last five rollouts, prompts seen once each.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

from exercises import wilson

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="runs")
    parser.add_argument("--run", default="tiny_pl-laptop")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--kinds", nargs="+", default=["grpo", "dr_grpo"])
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every run")
    given = parser.parse_args()
    checkpoint = Path(given.root, given.run, "dpo", "checkpoint")
    if not checkpoint.exists():
        sys.exit(f"{checkpoint} is not there: python recipes/minitron.py +model=tiny_pl experiment=laptop leaves it")
    print("| loss | seed | solved before | after | only before | only after | drawn | length | minutes |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in given.kinds:
        lost = won = 0
        for seed in given.seeds:
            folder = train(given, checkpoint, kind, seed)
            lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            before, after, only = solved(folder)
            lost, won = lost + only[0], won + only[1]
            rolled = [line for line in lines if "rollout_seconds" in line]
            first, last = rolled[:5], rolled[-5:]
            drawn = " → ".join(f"{mean(part, 'reward_boxed_math'):.1%}" for part in (first, last))
            length = " → ".join(f"{mean(part, 'length'):.2f}" for part in (first, last))
            minutes = json.loads((folder / "summary.json").read_text())["seconds"] / 60
            shares = " | ".join(share(sum(one), len(one)) for one in (before, after))
            print(
                f"| {kind} | {seed} | {shares} | {only[0]} | {only[1]} | {drawn} | {length} | {minutes:.0f} |",
                flush=True,
            )
        print(f"| {kind} | together | | | {lost} | {won} | by chance: p = {mcnemar(lost, won):.2g} | | |", flush=True)
    return 0


def train(given: argparse.Namespace, checkpoint: Path, kind: str, seed: int) -> Path:
    command = [sys.executable, str(REPOSITORY / "recipes" / "grpo.py"), "+model=tiny_pl", "experiment=laptop"]
    own = [f"run.root={given.root}", "run.name=rewards-benchmark", f"run.stage={kind}-{seed}", f"run.seed={seed}"]
    subprocess.run(
        [*command, *own, f"student.path={checkpoint.resolve()}", f"grpo.kind={kind}", *given.overrides],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return Path(given.root, "rewards-benchmark", f"{kind}-{seed}")


def solved(folder: Path) -> tuple[list[bool], list[bool], list[int]]:
    """Held-out prompts that a GRPO stage solved before its training and after it, and how many only before, only after."""
    tested = sorted((folder / "solved").glob("step=*.json"))
    before, after = (json.loads(tested[place].read_text()) for place in (0, -1))
    only = [sum(a and not b for a, b in zip(*pair, strict=True)) for pair in ((before, after), (after, before))]
    return before, after, only


def mean(lines: list[dict], key: str) -> float:
    return sum(line[key] for line in lines) / len(lines)


def share(right: int, of: int) -> str:
    low, high = wilson(right, of)
    return f"{right / of:.1%} ({low:.1%} to {high:.1%})"


def mcnemar(lost: int, won: int) -> float:
    """Two-sided probability of a split at least as uneven, each of the differing answers being a fair coin."""
    of = lost + won
    tail = sum(math.comb(of, k) for k in range(min(lost, won) + 1)) / 2**of
    return min(1.0, 2 * tail)


if __name__ == "__main__":
    sys.exit(main())
