"""What a distillation on text and dialogues keeps beside one on text alone, at equal tokens.

    python benchmarks/dialogues.py [--seeds 1 2 3] [--root runs] [OVERRIDE …]

Prunes `tiny_pl` once a seed and distils that student on text alone, and with dialogues in half of as many windows. The seed
draws calibration and order. Measured on the held-out text and on the answers of held-out dialogues, nats a token: the student's
cross-entropy and its forward KL from the teacher. What is finished is not run again. Writes `<root>/dialogues/dialogues.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLES = "assets/chat_samples"
CHATS = f"distill.chats=[{SAMPLES}/sft_train.jsonl.gz,{SAMPLES}/forms_train.jsonl.gz]"
SHARED = (
    "distill.max_steps=80",  # own choice: a seed in some two minutes of two cores
    "distill.global_batch_size=8",
    "distill.warmup_steps=8",
    "distill.validate_every=80",
    "distill.checkpoint_every=80",
    "data.heldout_samples=64",
    f"distill.chats_heldout=[{SAMPLES}/sft_heldout.jsonl.gz]",
)
MIXES = {
    "text alone": (),
    "half of the windows dialogues": (CHATS, "distill.chat_share=0.5"),
}
MEASURED = {
    "val_loss": "text: loss",
    "val_kl": "text: KL",
    "val_loss_chats": "answers: loss",
    "val_kl_chats": "answers: KL",
    "val_agreement_chats": "answers: agreement",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--root", default="runs")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every run")
    given = parser.parse_args()
    folder = Path(given.root) / "dialogues"
    lines: dict[str, list[dict]] = {"pruned": [], **{name: [] for name in MIXES}}
    for seed in given.seeds:

        def recipe(name: str, stage: str, *overrides: str, seed: int = seed) -> Path:
            """Run a recipe unless its stage is finished. Returns the stage's folder."""
            left = folder / f"seed-{seed}" / stage
            if not (left / "summary.json").exists():
                command = [sys.executable, str(REPOSITORY / "recipes" / f"{name}.py"), "+model=tiny_pl", f"run.seed={seed}"]
                where = [f"run.root={given.root}", f"run.name=dialogues/seed-{seed}", f"run.stage={stage}"]
                subprocess.run([*command, *where, *SHARED, *given.overrides, *overrides], check=True, stdout=subprocess.DEVNULL)
            return left

        recipe("convert", "convert-import", "convert.to=nemo")
        recipe("prune", "prune")
        for number, (name, overrides) in enumerate(MIXES.items()):
            metrics = recipe("distill", f"distill-{number}", *overrides) / "metrics.jsonl"
            validated = [line for text in metrics.read_text().splitlines() if "val_loss" in (line := json.loads(text))]
            lines[name].append({key: validated[-1][key] for key in MEASURED})
            if not overrides:
                lines["pruned"].append({key: validated[0][key] for key in MEASURED})
            print(f"seed {seed}, {name}: {lines[name][-1]}", file=sys.stderr, flush=True)

    print(f"Mean of {len(given.seeds)} seeds (lowest to highest)\n")
    print(f"| | {' | '.join(MEASURED.values())} |\n|---{'|---:' * len(MEASURED)}|")
    for name, found in lines.items():
        values = [[line[key] for line in found] for key in MEASURED]
        cells = [f"{statistics.mean(each):.3f} ({min(each):.3f} to {max(each):.3f})" for each in values]
        print(f"| {name} | {' | '.join(cells)} |")
    (folder / "dialogues.json").write_text(json.dumps(lines, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
