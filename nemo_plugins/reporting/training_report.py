"""What a training stage did, as pictures and one `report.html`, from the lines of its `metrics.jsonl`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_plugins.reporting import heldout_losses, training_plots
from nemo_plugins.reporting.page import Cell, PageTable, Part, Picture, Section, cell, page
from nemo_plugins.reporting.training_plots import finite, sets, skipped, taken

ROWS = 60  # of the table of validations; a longer one is thinned
NAMED = 8  # steps that a sentence names before it only counts
LEVEL = 5e-4  # own choice: change between two validations, of the loss, that is called neither falling nor rising
TAIL = 20  # logged steps from which the last tenth of them is a level, not an accident


@dataclass(frozen=True)
class Trained:
    """A training stage, in plain numbers.

    Attributes:
        lines: of `metrics.jsonl`, in the order written. Of a training step: `step`, `loss`, and where known `kd_loss`, `ce`,
            `agreement`, `grad_norm`, `lr`, `tokens_per_second`, `mfu`, `peak_memory_bytes`, `skipped`. Of a validation:
            `step`, `val_loss`, and where known `val_kl`, `val_agreement`; another held-out set's end in `_<its name>`.
            Losses are nats a token, shares 0 to 1, None is a number that was not finite.
        facts: what was trained, for a table.
        paper: first and last KD loss of the paper to hold the curve against; None: not comparable.
        events: what happened besides, a sentence each.
        pictures: of the stage's own: from the folder of plots and `lines` to further sections.
    """

    title: str
    lines: Iterable[Mapping[str, float | None]]
    facts: Mapping[str, Cell]
    paper: tuple[float, float] | None = None
    events: Sequence[str] = ()
    pictures: Callable[[Path, training_plots.Lines], list[Section]] | None = None


def write(folder: Path, trained: Trained) -> dict[str, Path]:
    """Draw `plots/*.png` and write `report.html` in `folder`; what was not measured is left out. Returns both by name."""
    lines = list(trained.lines)
    pictures = folder / "plots"
    heldout = sets(lines, "val_loss")
    names = list(heldout) or [""]
    lead = [
        loss_verdict(lines),
        heldout_verdict(heldout.get(names[0], {}), names[0]),
        won_back(lines),
        _others(heldout, names[1:]),
        _likeness(lines),
        skipped_verdict(lines),
    ]
    tables = {
        "What was trained": PageTable(["", ""], [(name, cell(value)) for name, value in trained.facts.items()]),
        "What happened": PageTable(["event"], [(event,) for event in trained.events]),
    }
    sections = [Section(heading, [table]) for heading, table in tables.items() if table.rows]
    sections += trained.pictures(pictures, lines) if trained.pictures else []
    sections += _sections(pictures, lines, trained.paper, names)
    report = page(folder / "report.html", trained.title, [said for said in lead if said], sections)
    return {"report": report, "plots": pictures} if pictures.is_dir() else {"report": report}


def loss_verdict(lines: training_plots.Lines) -> str:
    """First and last training loss in words; steps that were skipped do not count."""
    values = taken(lines, "loss")
    known = finite(values)
    if not values:
        return "No training loss was logged."
    if not known:
        return f"The training loss was never finite, over {_count(len(values), 'logged step')}."
    first, last = min(known), max(known)
    if len(known) == 1:
        said = f"The training loss was {cell(known[first])} at step {first:,}, the only one logged"
    else:
        said = f"The training loss went from {cell(known[first])} at step {first:,} to {cell(known[last])} at step {last:,}"
    if len(known) >= TAIL:
        said += f"; single steps vary, and the median of the last tenth of the logged ones is {cell(_tail(known))}"
    lost = [step for step in values if step not in known]
    return f"{said}." + (f" It was not finite at {_steps(lost)}." if lost else "")


def heldout_verdict(values: Mapping[int, float], name: str = "") -> str:
    """In words: how the held-out loss went, whether it was still falling at the end, and where it was lowest.

    Args:
        values: step → loss, steps ascending; not a number where it was not finite.
        name: of the held-out set, where it has one.
    """
    known, loss = finite(values), f"held-out loss of {name}" if name else "held-out loss"
    if not values:
        return f"No {loss} was measured."
    if not known:
        return f"The {loss} was never finite, over {_count(len(values), 'validation')}."
    steps, first, last = list(values), min(known), max(known)
    if len(values) == 1:
        return f"The {loss} was {cell(known[first])} at step {first:,}, the only validation: how it went is not known."
    if len(known) == 1:
        said = [f"The {loss} was {cell(known[first])} at step {first:,}."]
    else:
        said = [f"The {loss} went from {cell(known[first])} at step {first:,} to {cell(known[last])} at step {last:,}."]
    lost = [step for step in values if step not in known]
    if lost:
        said.append(f"It was not finite at {_steps(lost)}.")
    before, after = values[steps[-2]], values[steps[-1]]
    if math.isfinite(before) and math.isfinite(after):
        change = after - before
        course = "was level" if abs(change) < LEVEL * abs(before) else "was still falling" if change < 0 else "was rising"
        said.append(f"At the end it {course}: {_signed(change)} from step {steps[-2]:,} to step {steps[-1]:,}.")
    else:
        said.append("Whether it was still falling at the end is not known: one of the last two validations is not finite.")
    best = min(known, key=known.__getitem__)
    if len(known) > 1 and known[best] == known[last]:
        said.append("No validation was better than the last one." if last == steps[-1] else "That is the lowest that is known.")
    elif len(known) > 1:
        below = cell(known[last] - known[best])
        said.append(f"The lowest was {cell(known[best])} at step {best:,}, {below} below that of step {last:,}.")
    return " ".join(said)


def won_back(lines: training_plots.Lines) -> str:
    """How much of the gap to the teacher a distillation closed, on the same held-out windows; "" where it is not known."""
    teacher = training_plots.level(training_plots.series(lines, "teacher_val_loss"))
    student = finite(training_plots.series(lines, "val_loss"))
    if teacher is None or 0 not in student or len(student) < 2:
        return ""
    before, after = student[0], student[max(student)]
    said = f"On the same held-out windows the teacher's loss is {cell(teacher)}, the student's was {cell(before)} before step 1"
    share = heldout_losses.recovered(teacher, before, after)
    if share is None:
        return f"{said} and is {cell(after)} now: there was nothing to win back."
    return f"{said} and is {cell(after)} now: {share:.1%} of the gap is won back."


def skipped_verdict(lines: training_plots.Lines) -> str:
    """Whether steps were skipped, of those that were logged; "" where none was logged."""
    logged = {line["step"] for line in lines if line.get("step") is not None and "loss" in line}
    left_out = skipped(lines)
    if left_out:
        return f"The update of {_steps(left_out)} was skipped, of {_count(len(logged), 'logged step')}."
    return f"No update was skipped, of {_count(len(logged), 'logged step')}." if logged else ""


def _others(heldout: Mapping[str, Mapping[int, float]], names: Iterable[str]) -> str:
    """From what to what the loss of the further held-out sets went."""
    said = []
    for name in names:
        known = list(finite(heldout[name]).values())
        if len(known) > 1:
            said.append(f"{name} from {cell(known[0])} to {cell(known[-1])} ({_signed(known[-1] - known[0])})")
        else:
            said.append(f"{name} {cell(known[0])}" if known else f"{name} not finite")
    return f"Loss on further held-out text: {'; '.join(said)}." if said else ""


def _likeness(lines: training_plots.Lines) -> str:
    """How like the teacher the student became: on held-out text where that is known, else in training."""
    said = []
    for key, where in (("val_agreement", "held-out"), ("agreement", "training")):
        known = finite(taken(lines, key))
        if known:
            first, last = min(known), max(known)
            text = f"The most likely next token is the teacher's at {known[last]:.1%} of the {where} tokens of step {last:,}"
            said.append(text + (f", and was at {known[first]:.1%} of those of step {first:,}." if first != last else "."))
            break
    divergence = list(finite(taken(lines, "val_kl")).values())
    if len(divergence) > 1:
        said.append(f"The held-out divergence from the teacher (KL) went from {cell(divergence[0])} to {cell(divergence[-1])}.")
    elif divergence:
        said.append(f"The held-out divergence from the teacher (KL) was {cell(divergence[0])}.")
    return " ".join(said)


def _sections(folder: Path, lines: training_plots.Lines, paper: tuple[float, float] | None, names: list[str]) -> list[Section]:
    found: list[tuple[str, list[Part]]] = []
    if drawn := training_plots.curves(folder / "curves.png", lines, paper):
        parts: list[Part] = [Picture(drawn, "training loss by step"), _losses(lines)]
        if paper:
            parts.append(
                f"Black lines: the first ({paper[0]:g}) and last ({paper[1]:g}) KD loss of Bielik-Minitron-7B "
                "(arXiv 2603.11881). They are a goal only for its teacher, student, data and loss."
            )
        found.append(("Loss", parts))
    table = _validations(lines)
    if table:
        drawn = training_plots.heldout(folder / "heldout.png", lines)
        verdicts = [heldout_verdict(values, name) for name, values in sets(lines, "val_loss").items() if name != names[0]]
        found.append(("Held-out text", [*([Picture(drawn, "held-out loss by step")] if drawn else []), *verdicts, *table]))
    if drawn := training_plots.agreement(folder / "agreement.png", lines):
        text = "How often student and teacher would choose the same next token after the same text."
        found.append(("Agreement with the teacher", [Picture(drawn, "agreement with the teacher by step"), text]))
    if drawn := training_plots.health(folder / "health.png", lines):
        norms = finite(taken(lines, "grad_norm"))
        text = "The learning rate of each logged step."
        if norms:
            most = max(norms, key=norms.__getitem__)
            text = f"Norm of the gradient: median {cell(_median(norms))}, most {cell(norms[most])} at step {most:,}"
            text += "; skipped steps are not counted." if skipped(lines) else "."
        found.append(("Health", [Picture(drawn, "norm of the gradient and learning rate by step"), text]))
    if drawn := training_plots.speed(folder / "speed.png", lines):
        found.append(("Speed", [Picture(drawn, "tokens a second by step"), _speed(lines)]))
    return [Section(heading, parts) for heading, parts in found]


def _losses(lines: training_plots.Lines) -> PageTable:
    rows = []
    for key, values in training_plots.losses(lines).items():
        known = finite(values)
        numbers = list(known.values())
        tail = _tail(known) if len(known) >= TAIL else None
        label = training_plots.LABELS[key].replace("\n", " ")
        rows.append((label, numbers[0], numbers[-1], min(numbers), tail))
    return PageTable(["", "first", "last", "lowest", "median of the last tenth"], rows)


def _validations(lines: training_plots.Lines) -> list[Part]:
    """The table of validations, and a sentence where it is thinned."""
    columns: dict[str, dict[int, float]] = {}
    best: set[int] = set()
    for key, label in (("val_loss", "loss"), ("val_kl", "KL"), ("val_agreement", "agreement")):
        for name, values in sets(lines, key).items():
            columns[f"{label}, {name}" if name else label] = values
            if key == "val_loss" and not best and finite(values):
                best = {min(finite(values), key=values.__getitem__)}
    steps = sorted({step for values in columns.values() for step in values})
    if not steps:
        return []
    every = -(-len(steps) // ROWS)
    shown = [step for place, step in enumerate(steps) if place % every == 0 or step in best or step == steps[-1]]

    def number(step: int, label: str, values: Mapping[int, float]) -> Cell:
        value = values.get(step)
        if value is None or not math.isfinite(value):
            return "not finite" if value is not None else None
        return f"{100 * value:.2f} %" if label.startswith("agreement") else value

    rows = [
        (step, *(number(step, label, values) for label, values in columns.items()), "lowest loss" if step in best else "")
        for step in shown
    ]
    thinned = f"One in {every} of {len(steps):,} validations, the lowest and the last; all are in metrics.jsonl."
    return [*([thinned] if every > 1 else []), PageTable(["step", *columns, ""], rows)]


def _speed(lines: training_plots.Lines) -> str:
    rates, shares, bytes_ = (finite(taken(lines, key)) for key in ("tokens_per_second", "mfu", "peak_memory_bytes"))
    said = []
    if rates:
        said.append(f"{_median(rates):,.0f} tokens a second at the median of {_count(len(rates), 'logged step')}")
    if shares:
        said.append(f"{_median(shares):.1%} of the devices' peak (MFU)")
    if bytes_:
        said.append(f"at most {max(bytes_.values()) / 2**30:.2f} GiB of memory")
    return f"{', '.join(said)}."


def _median(values: Mapping[int, float]) -> float:
    return statistics.median(values.values())


def _tail(values: Mapping[int, float]) -> float:
    """Median of the last tenth."""
    numbers = list(values.values())
    return statistics.median(numbers[-max(1, len(numbers) // 10) :])


def _signed(change: float) -> str:
    return f"{'+' if change >= 0 else '−'}{cell(abs(change))}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _steps(steps: Sequence[int]) -> str:
    """ "step 12", "steps 3 and 12", "steps 3, 12 and 14 more"."""
    shown = [f"{step:,}" for step in steps[:NAMED]]
    if len(steps) > NAMED:
        shown.append(f"{len(steps) - NAMED:,} more")
    return f"step {shown[0]}" if len(shown) == 1 else f"steps {', '.join(shown[:-1])} and {shown[-1]}"
