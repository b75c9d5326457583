"""Blends of sources: what weights mean in tokens, and how often a source is read over. Imports neither torch nor NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_plugins.configs.data import DataConfig
from nemo_plugins.runs.errors import UserError

EPOCHS = 4.0  # up to so many, repeated text is worth nearly as much as new (arXiv 2305.16264)


@dataclass(frozen=True)
class Source:
    """A text's part in a training: its tokens, its share of the blend (all sum to 1), the tokens drawn from it."""

    name: str
    tokens: int
    share: float
    drawn: int

    @property
    def epochs(self) -> float:
        """How often it is read through."""
        return self.drawn / self.tokens


def check(data: DataConfig, sources: Sequence[str], key: str) -> None:
    """Weights are one positive number for each source, any scale; the share of exercises is a part.

    Raises: UserError naming `data.weights` or `data.exercises_share`.
    """
    share = data.exercises_share
    if share is not None and not 0 < share < 1:
        raise UserError(f"data.exercises_share={share:g}: expected a number above 0 and below 1")
    if data.weights is None:
        return
    if len(data.weights) != len(sources):
        raise UserError(
            f"data.weights has {len(data.weights)} numbers for the {len(sources)} sources of {key}",
            "expected one for each, in their order: " + ", ".join(names(sources)),
        )
    for weight, name in zip(data.weights, names(sources), strict=True):
        if not (math.isfinite(weight) and weight > 0):
            raise UserError(
                f"data.weights: {weight:g} for {name}", "expected numbers above 0, e.g. [0.8,0.2]; leave out what to skip"
            )


def settings(data: DataConfig) -> list[str]:
    """What of a configuration decides, beside the texts themselves, how often each is drawn."""
    share = [f"exercises {data.exercises_share:g}"] if data.exercises and data.exercises_share else []
    return [*(f"weight {weight:g}" for weight in data.weights or ()), *share]


def names(sources: Sequence[str]) -> list[str]:
    """Short names of sources, apart from each other: the file's own, then with its folder, then the path as it is."""
    last = [Path(source).name.split(".")[0] or str(source) for source in sources]
    longer = [f"{Path(source).parent.name}/{name}" for source, name in zip(sources, last, strict=True)]
    chosen = [one if last.count(one) == 1 else two for one, two in zip(last, longer, strict=True)]
    return [one if chosen.count(one) == 1 else str(source) for one, source in zip(chosen, sources, strict=True)]


def shares(
    tokens: Sequence[int], weights: Sequence[float] | None, extra: int = 0, extra_share: float | None = None
) -> list[float]:
    """Share of each source in what is drawn, summing to 1.

    Args:
        tokens: of each source; shares are by them where no weights are given.
        weights: of the sources but the last `extra`, which take part by their tokens beside the others as a whole.
        extra_share: of the last `extra` together, instead of by their tokens.
    """
    kept = len(tokens) - extra
    named, rest = tokens[:kept], tokens[kept:]
    whole = extra_share if extra and extra_share is not None else sum(rest) / sum(tokens)
    weights = weights or named
    return [(1 - whole) * weight / sum(weights) for weight in weights] + [whole * count / sum(rest) for count in rest]


def sources(called: Sequence[str], tokens: Sequence[int], shared: Sequence[float], trained: int) -> list[Source]:
    """What each source gives to a training of `trained` tokens."""
    return [
        Source(name, count, share, round(share * trained)) for name, count, share in zip(called, tokens, shared, strict=True)
    ]


def warnings(blend: Sequence[Source]) -> list[str]:
    """A line for each source that is read too often."""
    return [
        f"{one.name} is read {one.epochs:.1f} times ({one.drawn:,} tokens of {one.tokens:,}): beyond {EPOCHS:g} epochs "
        "repeated text is worth ever less than new (arXiv 2305.16264); give it more text, a smaller weight, or fewer steps"
        for one in blend
        if one.epochs > EPOCHS
    ]
