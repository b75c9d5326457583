"""The laptop's chain over several seeds: how much of the teacher each stage keeps, and how many held-out prompts GRPO wins.

    python benchmarks/laptop.py [--seeds 1 2 3] [--root runs] [OVERRIDE …]

Runs `experiment=laptop` on `tiny_pl` once a seed (the seed draws calibration, training order and completions; the teacher is
the same) and prints the tables that README and docs quote, each share with its 95 % interval. What is finished is not run
again.
`change` is what a stage does to the average score, in points, with the p of the paired bootstrap; `together` are the means over
the seeds, on the same resamples of the items. Prompts are those whose greedy answer earns the whole reward; of them `together`
is McNemar's exact test of all seeds (see benchmarks/rewards.py). Writes `<root>/laptop/kept.png`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import seeds
from rewards import mcnemar, share, solved

sys.path.insert(0, str(seeds.REPOSITORY))
CONFIDENCE = 0.95
STAGES = {"pruned": "pruned", "distilled": "distilled", "sft": "SFT", "dpo": "DPO-P", "grpo": "GRPO"}  # as they are drawn


def main() -> int:
    folder, runs = seeds.run(__doc__, "laptop", "laptop")
    models = [json.loads((run / "eval" / "summary.json").read_text())["models"] for run in runs.values()]
    mean = together(list(runs.values()))

    print("\n| recovery | " + " | ".join(f"seed {seed} | change" for seed in runs) + " | together | change |")
    print("|---" * (3 + 2 * len(runs)) + "|")
    for stage in STAGES:
        print(f"| {stage} | " + " | ".join(f"{recovery(of[stage])} | {change(of[stage])}" for of in [*models, mean]) + " |")

    draw(folder / "kept.png", mean, len(runs))

    print("\n| seed | solved before GRPO | after | only before | only after |\n|---|---|---|---|---|")
    lost = won = 0
    for seed, run in runs.items():
        before, after, only = solved(run / "grpo")
        lost, won = lost + only[0], won + only[1]
        print(f"| {seed} | {' | '.join(share(sum(one), len(one)) for one in (before, after))} | {only[0]} | {only[1]} |")
    print(f"| together | | by chance: p = {mcnemar(lost, won):.2g} | {lost} | {won} |")
    return 0


def together(runs: list[Path]) -> dict[str, dict]:
    """Of each stage the mean over the runs, in the form of an evaluation's `models`."""
    from nemo_plugins.evaluation import summary

    means = {name: tuple(sum(parts) / len(runs) for parts in zip(*(average(run, name) for run in runs), strict=True))
             for name in ("teacher", *STAGES)}  # fmt: skip
    found: dict[str, dict] = {}
    for before, stage in zip((None, *STAGES), STAGES, strict=False):
        found[stage] = {"against_teacher": summary.against(means[stage], means["teacher"], CONFIDENCE)}
        if before:
            found[stage]["against_before"] = summary.against(means[stage], means[before], CONFIDENCE)
    return found


def average(run: Path, model: str) -> tuple:
    """Average score of a model and of each resample of the items, which all models and runs share."""
    from omegaconf import OmegaConf

    from nemo_plugins.evaluation import summary
    from nemo_plugins.evaluation.cache import Result

    tasks = json.loads((run / "eval" / "summary.json").read_text())["suite"]["averaged"]
    results = {name: json.loads((run / "eval" / "results" / model / f"{name}.json").read_text()) for name in tasks}
    mine = {name: Result(**{key: value for key, value in one.items() if key != "samples"}) for name, one in results.items()}
    return summary.average(OmegaConf.load(run / "eval" / "config.yaml").eval, mine, tasks)


def draw(path: Path, models: dict[str, dict], count: int) -> None:
    """What each stage keeps of the teacher's score, with its interval."""
    from nemo_plugins.reporting import eval_plots

    points = [eval_plots.Point("teacher", 100.0, grey=True)]
    for stage, name in STAGES.items():
        kept = models[stage]["against_teacher"]
        low, high = kept["recovery_interval"]
        points.append(eval_plots.Point(name, 100 * kept["recovery"], (100 * low, 100 * high)))
    title = f"a student one third smaller, mean of {count} seeds"
    eval_plots.intervals(path, points, title, "% of the teacher's score, 95 % interval", (90.0, "nine tenths"))


def recovery(model: dict) -> str:
    low, high = model["against_teacher"]["recovery_interval"]
    return f"{model['against_teacher']['recovery']:.1%} ({low:.1%} to {high:.1%})"


def change(model: dict) -> str:
    before = model.get("against_before")
    return f"{100 * before['difference']:+.1f} (p = {before['p']:.2g})" if before else ""


if __name__ == "__main__":
    sys.exit(main())
