"""Rewards of a batch of completions, weighted and summed; what throws is a 0 and a counted warning, not a dead job."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

from nemo_plugins.alignment.rewards import get
from nemo_plugins.runs.errors import UserError

log = logging.getLogger(__name__)

Mix = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class RewardScores:
    """What a batch earned: `totals`, `[n]`; by reward, the value of each completion that it was asked for, unweighted."""

    totals: list[float]
    by_reward: dict[str, list[float]]


@dataclass
class Scorer:
    """Scores completions by a mix of rewards for each kind of prompt:

        {"boxed_math": {"boxed_math": 1.0, "polish_language": 0.1}, "tool_call": {"tool_call": 1.0}}

    Args:
        mix: kind of prompt → reward's name (`rewards.get`) → weight.
        options: reward's name → its keyword arguments.
        own: reward's name → "path/to/file.py:function", for rewards that are not in `rewards.NAMES`.

    Attributes:
        failures: "reward: exception" → how often, since the beginning; the first of each is also a warning in the log.

    Raises:
        UserError: no mix, an unknown reward or option, or a weight that is no finite number.
    """

    mix: Mix
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)

    def __post_init__(self):
        weights = {(kind, name): weight for kind, rewards in self.mix.items() for name, weight in rewards.items()}
        if not weights or any(not rewards for rewards in self.mix.values()):
            raise UserError(f"rewards: {dict(self.mix)}: expected a reward and its weight for every kind of prompt")
        for (kind, name), weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight):
                raise UserError(f"rewards.{kind}.{name}: expected a number as weight, got {weight!r}")
        names = {name for _, name in weights}
        unused = sorted(set(self.options) - names)
        if unused:
            raise UserError(f"options for {', '.join(unused)}: no such reward in the mix, which has {', '.join(sorted(names))}")
        self._rewards = {name: get(self.own.get(name, name), **self.options.get(name, {})) for name in names}

    def score(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[str], kinds: Sequence[str]
    ) -> RewardScores:
        """What each completion earns; all arguments have one entry a completion.

        Raises:
            UserError: a kind that the mix has nothing for.
            ValueError: lengths that differ.
        """
        unknown = sorted(set(kinds) - set(self.mix))
        if unknown:
            raise UserError(f"prompts of kind {', '.join(unknown)}: rewards are set for {', '.join(self.mix)} only")
        totals: list[float] = []
        by_reward: dict[str, list[float]] = {name: [] for name in sorted(self._rewards)}
        for prompt, completion, reference, kind in zip(prompts, completions, references, kinds, strict=True):
            total = 0.0
            for name, weight in self.mix[kind].items():
                value = self._one(name, prompt, completion, reference)
                by_reward[name].append(value)
                total += weight * value
            totals.append(total)
        return RewardScores(totals, by_reward)

    def _one(self, name: str, prompt: str, completion: str, reference: str) -> float:
        try:
            value = self._rewards[name](prompt, completion, reference)
            if not isinstance(value, Real) or not math.isfinite(value):
                raise TypeError(f"expected a finite number, got {value!r:.100}")
            return float(value)
        except Exception as error:  # also a user's own reward: whatever it does wrong must not end a run of days
            what = f"{name}: {type(error).__name__}"
            self.failures[what] += 1
            if self.failures[what] == 1:
                log.warning("reward %s: %s; counted as 0; further errors of this kind are not logged", what, error)
            return 0.0


def score(
    mix: Mix, prompts: Sequence[str], completions: Sequence[str], references: Sequence[str], kinds: Sequence[str]
) -> tuple[RewardScores, Counter[str]]:
    """Scores of one batch, and what failed how often; a loop keeps a `Scorer`."""
    scorer = Scorer(mix)
    return scorer.score(prompts, completions, references, kinds), scorer.failures
