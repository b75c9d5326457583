"""What a student owes to how it is pruned, and to how fast it is distilled: held-out loss before and after, at equal tokens.

    python benchmarks/students.py [--seeds 1 2 3] [--steps 100] [--students NAME …] [--root runs] [OVERRIDE …]

Prunes `tiny_pl` with and without `prune.compensate` and distils each student as `experiment=laptop` does, for so many steps; at
`--steps 0` not at all. The seed draws calibration and training order. Held-out loss is cross-entropy in nats a token, the same
text for all. Differences are to the first student of the same seed, with the 95 % interval of Student's t over the seeds. What
is finished is not run again. Writes `<root>/students/students.json`.
"""

from __future__ import annotations

import json
import statistics
import sys
from functools import partial
from pathlib import Path

import seeds
from scipy.stats import t

PRUNED, COMPENSATED = "prune", "prune-compensated"
# name → its pruning, overrides of its distillation
STUDENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pruned": (PRUNED, ()),
    "compensated": (COMPENSATED, ()),
    "pruned, lr 2e-3": (PRUNED, ("distill.lr=2e-3",)),
    "compensated, lr 2e-3": (COMPENSATED, ("distill.lr=2e-3",)),
    "pruned, min_lr 1e-5": (PRUNED, ("distill.min_lr=1e-5",)),
}


def main() -> int:
    parser = seeds.parser(__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--students", nargs="+", choices=list(STUDENTS), default=["pruned", "compensated"], metavar="NAME")
    given = parser.parse_args()
    steps = [f"distill.{key}={given.steps}" for key in ("max_steps", "validate_every", "checkpoint_every")]
    before: dict[str, list[float]] = {name: [] for name in given.students}
    after: dict[str, list[float]] = {name: [] for name in given.students}
    for seed in given.seeds:
        run = Path(given.root) / "students" / f"seed-{seed}"
        recipe = partial(seeds.stage, run, seed, given.overrides)
        recipe("convert-import", "convert", "convert.to=nemo")
        for name in given.students:
            pruning, overrides = STUDENTS[name]
            pruned = recipe(pruning, "prune", f"prune.compensate={pruning == COMPENSATED}")
            student = f"student.path={run / pruning / 'checkpoint'}"
            before[name].append(pruned["loss_after"])
            print(f"seed {seed}, {name}: {before[name][-1]:.4f} pruned", flush=True)
            if given.steps:
                distilled = recipe(f"distill-{list(STUDENTS).index(name)}", "distill", student, *steps, *overrides)
                after[name].append(distilled["val_loss"])
                print(f"seed {seed}, {name}: {after[name][-1]:.4f} distilled", flush=True)

    for title, losses in (("pruned", before), (f"distilled for {given.steps} steps", after))[: 2 if given.steps else 1]:
        base = next(iter(losses.values()))
        print(f"\nHeld-out loss (nats a token), {title}\n")
        print(f"| student | {' | '.join(f'seed {seed}' for seed in given.seeds)} | mean | to the first (95 %) |")
        print("|---" * (3 + len(given.seeds)) + "|")
        for name, row in losses.items():
            shown = " | ".join(f"{one:.4f}" for one in row)
            print(f"| {name} | {shown} | {statistics.mean(row):.4f} | {paired(row, base) if row is not base else ''} |")
    table = {"steps": given.steps, "seeds": given.seeds, "pruned": before, "distilled": after}
    (Path(given.root) / "students" / "students.json").write_text(json.dumps(table, indent=2) + "\n")
    return 0


def paired(one: list[float], base: list[float]) -> str:
    """Mean difference, seed by seed, with the 95 % interval of Student's t."""
    apart = [mine - theirs for mine, theirs in zip(one, base, strict=True)]
    mean = statistics.mean(apart)
    if len(apart) < 2:
        return f"{mean:+.4f}"
    half = t.ppf(0.975, len(apart) - 1) * statistics.stdev(apart) / len(apart) ** 0.5
    return f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"


if __name__ == "__main__":
    sys.exit(main())
