"""A student by what it may cost: the sizes that a teacher can be pruned to, those of them that fit, and the one to take.

The grid of a size that is not frozen and has no list of its own (`prune.budget.grid`) goes from half the teacher's up to the
teacher's: every number of layers, FFN sizes in steps of 512 (ModelOpt's search grid) from 8192 on and of 64 below, hidden sizes
in steps of 256 from 2048 on and of 64 below, heads in steps of the query groups. Half is own choice: the rule of thumb is to
prune at most a third at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from nemo_plugins.configs.schema import BudgetConfig, GridConfig, ModelConfig, SizesConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import decode, devices, formats
from nemo_plugins.runs.errors import UserError

SIZES = ("num_layers", "ffn_hidden_size", "hidden_size", "num_attention_heads")  # query groups cannot be pruned
LIMITS = ("parameters", "weights_gb", "device", "decode_ms")  # keys that limit; the others say how it is counted
MULTIPLE = 64  # of FFN and hidden sizes, as ModelOpt's pruning has them
STEPS = {"ffn_hidden_size": (8192, 512), "hidden_size": (2048, 256)}  # from this size of the teacher on, this step; else 64
NEAR = 0.01  # of the largest parameter count that fits: own choice, below what distillation runs tell apart
K_QUANT = 256  # columns that llama.cpp's K-quants pack together
MOST = 50_000  # points of a grid: about a second
KEPT_LAYERS, KEPT_FFN = 40 / 50, 11264 / 14336  # of the paper's student, about a third smaller (arXiv 2603.11881)


@dataclass(frozen=True)
class Limit:
    """One thing that a budget limits.

    `asked` is the key and value that ask for it, `cost` what a model costs and `allowed` the most it may, in the same unit.
    """

    asked: str
    what: str
    allowed: float
    cost: Callable[[Architecture], float]
    text: Callable[[float], str]

    def admits(self, model: Architecture) -> bool:
        return self.cost(model) <= self.allowed


def is_given(budget: BudgetConfig) -> bool:
    """Whether the budget limits anything."""
    return any(getattr(budget, key) is not None for key in LIMITS)


def limits(budget: BudgetConfig) -> list[Limit]:
    """What the budget limits, each as a cost of a model.

    Raises:
        UserError: a limit that is not positive, a device that there is not, `decode_ms` without a device.
    """
    for key in ("parameters", "weights_gb", "decode_ms", "context"):
        value = getattr(budget, key)
        if value is not None and not value > 0:
            raise UserError(f"prune.budget.{key}={value:g}: expected a positive number")
    if budget.decode_ms is not None and budget.device is None:
        raise UserError(
            f"prune.budget.decode_ms={budget.decode_ms:g} without a device",
            f"give the one that it is about: prune.budget.device=<{' | '.join(devices.options('device'))}>",
        )
    found, format = [], budget.format
    if budget.parameters is not None:
        what = "parameters" if budget.count == "all" else "parameters, one embedding matrix"
        count = _parameters(budget)
        found.append(Limit(f"prune.budget.parameters={budget.parameters:g}", what, budget.parameters, count, "{:,.0f}".format))
    if budget.weights_gb is not None:
        asked, what = f"prune.budget.weights_gb={budget.weights_gb:g}", f"weights in {format}"
        found.append(Limit(asked, what, budget.weights_gb * 1e9, lambda model: formats.weight_bytes(model, format), gigabytes))
    if budget.device is not None:
        device, context = devices.load(budget.device, "prune.budget.device"), budget.context
        asked, what = f"prune.budget.device={budget.device}", f"weights in {format} and {context:,} tokens of cache"
        found.append(Limit(asked, what, device.usable_bytes, lambda model: served_bytes(model, budget), gigabytes))
        if budget.decode_ms is not None:
            asked, what = f"prune.budget.decode_ms={budget.decode_ms:g}", f"time of a token on {budget.device}, {format}"
            found.append(
                Limit(
                    asked,
                    what,
                    budget.decode_ms,
                    lambda model: decode.milliseconds(model, device, format, context),
                    "{:.2f} ms".format,
                )
            )
    return found


def served_bytes(model: Architecture, budget: BudgetConfig) -> int:
    """Bytes of the weights in `format` and the key-value cache of `context` tokens."""
    return formats.weight_bytes(model, budget.format) + decode.cache_bytes(model, budget.context)


def gigabytes(number: float) -> str:
    """Bytes as text, in units of 10^9."""
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.2f} MB"


def grid(teacher: Architecture, sizes: GridConfig, frozen: list[str]) -> list[Architecture]:
    """Every smaller model that the teacher may be pruned to, the teacher itself left out.

    Raises:
        UserError: a name in `frozen` that is no size, or all of them; a list of sizes that cannot be pruned to or is frozen;
            more points than are looked at.
    """
    unknown = [name for name in frozen if name not in SIZES]
    if unknown:
        raise UserError(f"prune.budget.frozen: {unknown[0]} is no size", f"expected some of: {', '.join(SIZES)}")
    free = [key for key in SIZES if key not in frozen]
    if not free:
        raise UserError("prune.budget.frozen names every size: nothing is left", f"leave out one of {', '.join(SIZES)}")
    values = [_sizes(teacher, key, getattr(sizes, key), frozen) for key in SIZES]
    number = 1
    for choices in values:
        number *= len(choices)
    if number > MOST:
        raise UserError(
            f"prune.budget.grid has {number:,} students, more than {MOST:,}",
            "freeze a size (prune.budget.frozen) or list fewer, e.g. prune.budget.grid.ffn_hidden_size=[8192,10240,12288]",
        )
    points = (teacher.with_sizes(dict(zip(SIZES, chosen, strict=True))) for chosen in itertools.product(*values))
    return [point for point in points if point != teacher]


def admissible(points: list[Architecture], teacher: Architecture, budget: BudgetConfig) -> list[Architecture]:
    """The points that keep within every limit.

    Raises:
        UserError: none does; the message has the two that come nearest and what the teacher costs.
    """
    asked = limits(budget)
    fitting = [point for point in points if all(limit.admits(point) for limit in asked)]
    if fitting or not points:
        return fitting
    near = sorted(points, key=lambda point: max(limit.cost(point) / limit.allowed for limit in asked))[:2]
    raise UserError(
        f"{' and '.join(limit.asked for limit in asked)}: no student of the grid is that small",
        *(f"allowed: {limit.text(limit.allowed)} ({limit.what})" for limit in asked),
        "the nearest are",
        *(f"  {describe(point)}: {', '.join(limit.text(limit.cost(point)) for limit in asked)}" for point in near),
        f"the teacher has {', '.join(limit.text(limit.cost(teacher)) for limit in asked)}",
        "raise the budget, free a size (prune.budget.frozen) or widen its list (prune.budget.grid)",
    )


def choose(teacher: Architecture, budget: BudgetConfig) -> Architecture:
    """The student of a budget.

    Of the points that fit and have at least 99 % of the parameters of the largest one, the most balanced cut: the smallest
    difference between the largest and the smallest kept share of the sizes that are not frozen. Ties: more parameters, then
    more layers. Own choice, after Minitron (arXiv 2408.11796), where cutting width and depth a little beats cutting one a lot;
    for the paper's budget it gives the paper's student.

    Raises:
        UserError: what `limits`, `grid` and `admissible` raise; the teacher itself fits.
    """
    asked = limits(budget)
    if all(limit.admits(teacher) for limit in asked):
        raise UserError(
            f"{' and '.join(limit.asked for limit in asked)}: the teacher itself fits, nothing need be pruned",
            *(f"it has {limit.text(limit.cost(teacher))} of {limit.text(limit.allowed)} ({limit.what})" for limit in asked),
            "give a smaller budget, or the student's sizes",
        )
    fitting = admissible(grid(teacher, budget.grid, budget.frozen), teacher, budget)
    count = _parameters(budget)
    counted = [(count(point), point) for point in fitting]
    most = max(number for number, _ in counted)
    free = [key for key in SIZES if key not in budget.frozen]

    def rank(entry: tuple[int, Architecture]) -> tuple[float, int, int]:
        number, point = entry
        kept = [getattr(point, key) / getattr(teacher, key) for key in free]
        return max(kept) - min(kept), -number, -point.num_layers

    return min((entry for entry in counted if entry[0] >= (1 - NEAR) * most), key=rank)[1]


def recommended(model: ModelConfig, stages: int = 1) -> SizesConfig:
    """The student that the model's file recommends, else one with layers and FFN cut as the paper's: about a third smaller.

    Args:
        stages: of a pipeline, which are to share the layers out.
    """
    if model.recommended.student != SizesConfig():
        return model.recommended.student
    have, own = model.num_layers, model.ffn_hidden_size
    step = max(_step("ffn_hidden_size", own), K_QUANT if own % K_QUANT == 0 else 0)
    layers = min(round(KEPT_LAYERS * have / stages) * stages, have - stages)
    ffn = min(round(KEPT_FFN * own / step) * step, (own - 1) // step * step)
    return SizesConfig(num_layers=layers if layers > 0 else None, ffn_hidden_size=ffn or None)


def describe(model: Architecture) -> str:
    """The sizes that pruning may change, on one line."""
    return (
        f"{model.num_layers} layers, FFN {model.ffn_hidden_size}, hidden {model.hidden_size}, {model.num_attention_heads} heads"
    )


def _parameters(budget: BudgetConfig) -> Callable[[Architecture], int]:
    return lambda model: model.parameters(budget.count.value)


def _sizes(teacher: Architecture, key: str, listed: list[int] | None, frozen: list[str]) -> list[int]:
    """What a size may be, ascending."""
    own = getattr(teacher, key)
    if listed is None:
        if key in frozen:
            return [own]
        step = {"num_layers": 1, "num_attention_heads": teacher.num_query_groups}.get(key) or _step(key, own)
        first = -(-own // 2 // step) * step if step > 1 else -(-own // 2)
        return sorted({*range(max(first, step), own + 1, step), own})
    name = f"prune.budget.grid.{key}"
    if key in frozen:
        others = ",".join(other for other in frozen if other != key)
        raise UserError(f"{name} is given, but prune.budget.frozen names {key}", f"expected prune.budget.frozen=[{others}]")
    if not listed:
        raise UserError(f"{name}=[] lists no size", "expected at least one, or null for the sizes derived from the teacher")
    for value in listed:
        if value != own:
            check_size(f"{name}: {value}", key, value, teacher)
    return sorted(set(listed))


def check_size(what: str, key: str, value: int, teacher: Architecture) -> None:
    """Refuse a size that the teacher cannot be pruned to; `what` is how the configuration gives it. Raises UserError."""
    own, groups = getattr(teacher, key), teacher.num_query_groups
    if value <= 0:
        raise UserError(f"{what}: expected positive, at most the teacher's {own}")
    if value > own:
        raise UserError(f"{what} is more than the teacher's {own}", "pruning only takes away")
    if key in STEPS and value % MULTIPLE:
        near = f"{value // MULTIPLE * MULTIPLE or MULTIPLE} or {(value // MULTIPLE + 1) * MULTIPLE}"
        raise UserError(f"{what} is not a multiple of {MULTIPLE}", f"expected e.g. {near}")
    if key == "num_attention_heads" and value % groups:
        raise UserError(f"{what} do not share out to {groups} query groups", f"expected a multiple of {groups}")


def _step(key: str, own: int) -> int:
    large, step = STEPS[key]
    return step if own >= large else MULTIPLE
