"""Pruning a teacher and searching for a student. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nemo_plugins.configs.deployment import Format
from nemo_plugins.configs.model import SizesConfig


class Criterion(StrEnum):
    """How pruning decides which layers go; width goes by importance except under `random`."""

    importance = "importance"  # Block Influence: the layers that change their input least
    loss = "loss"  # the layers whose removal, one at a time, raises the loss least (Minitron's perplexity criterion)
    loss_run = "loss_run"  # the run of neighbouring layers whose removal raises the loss least
    random = "random"  # baseline: layers, neurons, channels and heads by chance
    last_layers = "last_layers"  # baseline: the last ones


class Aggregate(StrEnum):
    """How absolute activations become one number a channel, first over the sequence, then over the samples."""

    mean = "mean"
    l2 = "l2"
    variance = "variance"


class Count(StrEnum):
    """Which parameters count: all that are stored, or one embedding matrix as the paper counts."""

    all = "all"
    paper = "paper"


@dataclass
class CalibrationConfig:
    samples: int = 1024
    seq_length: int = 4096
    micro_batch_size: int = 1
    data: list[str] = field(default_factory=list)
    subsets: int = 8  # parts whose scores are kept apart, so that one sees whether the samples were enough
    loss_samples: int = 0  # of the calibration text on which each layer's removal is measured; 0: only where a criterion asks


@dataclass
class AggregationConfig:
    """Of FFN, hidden and head importance. Default: the Bielik paper's, which is also what ModelOpt measures."""

    sequence: Aggregate = Aggregate.mean
    samples: Aggregate = Aggregate.l2


@dataclass
class GridConfig:
    """Sizes that a budget or a search may choose from; None: derived from the teacher (`planning/budget.py`)."""

    num_layers: list[int] | None = None
    ffn_hidden_size: list[int] | None = None
    hidden_size: list[int] | None = None
    num_attention_heads: list[int] | None = None


@dataclass
class BudgetConfig:
    """What the student may cost, instead of its sizes. All that is given must hold; None is not a limit."""

    parameters: float | None = None
    count: Count = Count.all
    weights_gb: float | None = None  # 10^9 bytes of the weights in `format`
    device: str | None = None  # a file of conf/device/: weights in `format` and the key-value cache of `context` tokens fit it
    context: int = 8192
    decode_ms: float | None = None  # predicted time of a token on `device`, one stream, from the bytes moved
    format: Format = Format.bf16
    frozen: list[str] = field(default_factory=lambda: ["hidden_size", "num_attention_heads"])  # as the paper's student
    grid: GridConfig = field(default_factory=GridConfig)


@dataclass
class PruneConfig(SizesConfig):
    """The student: sizes, or layers to drop (from 1, as NeMo counts), or a budget. None of them: the recommended student."""

    drop_layers: list[int] | None = None
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    criterion: Criterion = Criterion.importance
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    compensate: bool = False  # the kept FFN neurons take over what they have in common with the others, by least squares
    scores: str | None = None  # file of scores measured before; default: those of the same teacher and calibration, if any
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)


@dataclass
class SearchConfig:
    """Which students are compared, and how far. The sizes and budgets are those of `prune.budget`."""

    candidates: str = "grid"  # grid | paper (the experiments exp_*)
    only: list[str] = field(default_factory=list)  # names: just these, e.g. one a job of a multirun
    slack: float = 0.05  # candidates this much smaller than the largest that fits, and no more
    limit: int = 24  # candidates of the grid at most, the largest first
    part: int | None = None  # share of a job array, from 0; default: SLURM_ARRAY_TASK_ID
    parts: int | None = None
    keep: int = 3  # best ones that are distilled
    distill_steps: int = 0  # of the short distillation; 0: none
