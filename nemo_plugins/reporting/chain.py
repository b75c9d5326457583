"""What a finished chain came to: held-out losses of its models in a table, a picture and `report.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from nemo_plugins import runs
from nemo_plugins.reporting import heldout_losses
from nemo_plugins.runs.folder import write as write_whole


@dataclass(frozen=True)
class Claim:
    """One thing that the paper leads one to expect, and whether this run shows it."""

    text: str
    holds: bool


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Summaries of the run's finished stages by their folder below it."""
    files = sorted(folder.glob("*/summary.json")) + sorted(folder.glob("*/*/summary.json"))
    return {str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in files}


def recovered(values: dict[str, float]) -> float | None:
    """Share of the loss that pruning cost which distillation won back; None also where one of the three is not there."""
    models = ("teacher", "pruned", "distilled")
    return heldout_losses.recovered(*(values[model] for model in models)) if values.keys() >= set(models) else None


def claims(values: dict[str, float]) -> list[Claim]:
    """The paper's order, as far as the run has the models for it."""
    pairs = (
        ("teacher", "pruned", "pruning costs"),
        ("distilled", "pruned", "distillation wins back"),
        ("distilled", "from scratch, same tokens", "distilling beats training the same size from scratch"),
        ("distilled", "pruned at random, distilled", "importance beats chance, both distilled as long"),
        ("distilled", "without its last layers, distilled", "importance beats dropping the last layers, distilled alike"),
    )
    return [Claim(text, values[low] < values[high]) for low, high, text in pairs if {low, high} <= values.keys()]


def write(folder: Path) -> None:
    """Print and draw what the run at `folder` came to; writes `report.json` and `plots/losses.png`."""
    from nemo_plugins.reporting import plots

    summaries = read(folder)
    values = heldout_losses.losses(summaries)
    if not values:
        return
    share, shown = recovered(values), claims(values)
    report = {"heldout_loss": values, "recovered": share, "claims": [asdict(claim) for claim in shown]}
    write_whole(folder / "report.json", json.dumps(report, indent=2) + "\n")
    plots.losses(folder / "plots" / "losses.png", values, heldout_losses.BASELINES, f"{folder.name}: held-out loss")

    console = runs.console()
    table = Table(title="loss on held-out text", title_justify="left")
    table.add_column("model")
    table.add_column("loss", justify="right")
    table.add_column("parameters", justify="right")
    for name, loss in values.items():
        table.add_row(name, f"{loss:.4f}", f"{parameters(summaries, name):,}")
    console.print(table)
    if share is not None:
        console.print(f"Distillation won back {share:.1%} of what pruning cost.")
    for claim in shown:
        console.print(f"{'yes' if claim.holds else 'NO '}  {claim.text}")
    if "convert-export" in summaries:
        student = folder / "convert-export" / summaries["convert-export"]["outputs"]["hf"]
        console.print(f"The student as a Hugging Face folder: {student}", soft_wrap=True)
    for line in aligned(folder, summaries):
        console.print(line, soft_wrap=True)
    console.print(f"Picture: {folder / 'plots' / 'losses.png'}", soft_wrap=True)


def aligned(folder: Path, summaries: dict[str, dict[str, Any]]) -> list[str]:
    """What the preference pairs came to, and the command that says how many exercises the students solve."""
    said = []
    if "dpo" in summaries:
        of = summaries["dpo"]["metrics"]
        said.append(
            f"Preference pairs, held out: the chosen answer wins in {of['accuracy']:.1%} and has moved by "
            f"{of['chosen_shift']:+.2f} nats."
        )
    stages = {"distilled": "convert-export", "aligned": "aligned-export"}
    if all(stage in summaries for stage in stages.values()):
        models = " ".join(f"{name}={folder / stage / summaries[stage]['outputs']['hf']}" for name, stage in stages.items())
        said.append(f"How many exercises they solve: python benchmarks/exercises.py {models}")
    return said


def parameters(summaries: dict[str, dict[str, Any]], name: str) -> int:
    """Parameters of a model of the run, both embedding matrices counted."""
    if name.startswith("from scratch"):
        return summaries["scratch/pretrain"]["model"]["parameters"]
    return summaries["prune"]["teacher" if name == "teacher" else "student"]["parameters"]
