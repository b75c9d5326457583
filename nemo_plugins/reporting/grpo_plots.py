"""The pictures of a training by rewards: do they rise, on what, and does the policy stay a language model."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib import pyplot
from matplotlib.ticker import MaxNLocator

from nemo_plugins.reporting.page import PageTable, Picture, Section
from nemo_plugins.reporting.plots import BASELINE, KEPT, write_png
from nemo_plugins.reporting.training_plots import Lines, finite, series, taken

PANELS = {
    "rewards.png": (("reward", "val_reward", "mean reward"), ("signal", None, "groups with signal")),
    "policy.png": (("kl", None, "KL to the reference (nats a token)"), ("entropy", None, "entropy (nats a token)")),
    "completions.png": (("length", "val_length", "tokens of a completion"), ("truncated", "val_truncated", "share cut off")),
}


def sections(folder: Path, lines: Lines, run: Path) -> list[Section]:
    """Reward and signal, KL and entropy, lengths; alarms; sampled completions with their rewards."""
    pictures = [Picture(drawn, name.partition(".")[0]) for name in PANELS if (drawn := pair(folder / name, lines))]
    accuracy = finite(series(lines, "val_accuracy"))
    parts: list[str | Picture] = list(pictures)
    if accuracy:
        first, last = min(accuracy), max(accuracy)
        parts.append(
            f"Held-out prompts solved greedily: {accuracy[first]:.1%} at step {first:,}, {accuracy[last]:.1%} at step {last:,}."
        )
    shown = [Section("Do the rewards rise", parts)] if parts else []
    if (alarms := run / "alarms.jsonl").is_file():
        rows = [(f"{line['step']:,}", line["alarm"]) for line in map(json.loads, alarms.read_text().splitlines())]
        shown.append(Section("Alarms", [PageTable(["step", "what"], rows)]))
    return [*shown, *samples(run)]


def samples(run: Path) -> list[Section]:
    """Completions of the first and the last rollout that was written down."""
    files = sorted((run / "samples").glob("step=*.json"))
    rows = [
        (f"{int(file.stem.partition('=')[2]):,}", one["prompt"], one["answer"], one["reference"], f"{one['reward']:.2f}")
        for file in dict.fromkeys([*files[:1], *files[-1:]])
        for one in json.loads(file.read_text())
    ]
    return [Section("What it says", [PageTable(["step", "prompt", "answer", "reference", "reward"], rows)])] if rows else []


def pair(path: Path, lines: Lines) -> Path | None:
    """Two panels by step. Returns `path`; None where there is nothing to draw."""
    panels = PANELS[path.name]
    if not any(finite(taken(lines, key)) for key, _, _ in panels):
        return None
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    for each, (key, heldout, label) in zip(axes, panels, strict=True):
        for name, colour, said in ((key, BASELINE, "training"), (heldout, KEPT, "held out, greedy")):
            if name and (values := finite(taken(lines, name))):
                each.plot(list(values), list(values.values()), color=colour, label=said)
        each.set(xlabel="step", ylabel=label)
        each.xaxis.set_major_locator(MaxNLocator(integer=True))
        each.legend(frameon=False, loc="best")
    return write_png(figure, path)
