"""Signs of collapse between rollouts, each with what to try."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping

from nemo_plugins import runs
from nemo_plugins.configs.schema import GroupLoss, GrpoConfig

FIRST = 3  # rollouts whose median later ones are held against
# own choice, all of them
ENTROPY, SHORT, LONG, IDENTICAL, TRUNCATED, SIGNAL = 0.1, 0.33, 3.0, 0.95, 0.5, 0.05
MISMATCHED, FAR = 3, 10.0  # rollouts in a row above grpo.max_mismatch, and times it, that stop a run


class Alarms:
    """Looks at each rollout's numbers; says each thing once in a row, on the terminal and in `alarms.jsonl`."""

    def __init__(self, run: runs.Run, grpo: GrpoConfig):
        self.run, self.grpo = run, grpo
        self.first: dict[str, list[float]] = {"entropy": [], "length": []}
        self.ringing: set[str] = set()
        for line in run.read_metrics():
            self._learn(line)

    def _learn(self, values: Mapping[str, float]) -> None:
        for name, seen in self.first.items():
            if "signal" in values and values.get(name) is not None and len(seen) < FIRST:
                seen.append(values[name])

    def look(self, step: int, values: Mapping[str, float]) -> list[str]:
        """What is new at this step."""
        self._learn(values)
        found = self.found(values) if self.grpo.alarms else {}
        new = [text for name, text in found.items() if name not in self.ringing]
        self.ringing = set(found)
        for text in new:
            runs.console(2).print(f"step {step}: {text}")
            with open(self.run.folder / "alarms.jsonl", "a") as file:
                file.write(json.dumps({"step": step, "alarm": text}) + "\n")
        return new

    def found(self, values: Mapping[str, float]) -> dict[str, str]:
        """Alarm → sentence."""
        entropy, length = (statistics.median(self.first[name]) if self.first[name] else 0 for name in ("entropy", "length"))
        wrong: dict[str, str] = {}
        if values.get("entropy", entropy) < ENTROPY * entropy:
            wrong["entropy"] = (
                f"the entropy is {values['entropy']:.3g} nats a token, it was {entropy:.3g}: the policy hardly tries anything; "
                "try a higher grpo.clip_high or grpo.kl_coef, a lower grpo.lr, or an earlier checkpoint"
            )
        averaged = self.grpo.kind in (GroupLoss.grpo, GroupLoss.gspo)  # a long completion's tokens count less
        if length and not SHORT * length <= values["length"] <= LONG * length:
            wrong["length"] = (
                f"completions have {values['length']:.1f} tokens, they had {length:.1f}: does a reward pay for length? "
                f"try {'grpo.kind=dr_grpo, ' if averaged else ''}the reward `length`, or a higher grpo.kl_coef"
            )
        if not values.get("staleness") and values.get("mismatch", 0) > self.grpo.max_mismatch:
            wrong["mismatch"] = (
                f"the engine's log-probabilities are {values['mismatch']:.4g} nats a token from the trainer's with the same "
                f"weights, above grpo.max_mismatch={self.grpo.max_mismatch:g}: do its temperature, template, precision and "
                f"weights fit? {MISMATCHED} such rollouts in a row, or one {FAR:g} times above it, stop the run"
            )
        if values["identical"] > IDENTICAL:
            wrong["identical"] = (
                f"{values['identical']:.0%} of a group's completions repeat another: there is little left to compare; "
                "try a higher grpo.temperature, harder prompts, or stop here"
            )
        if values["truncated"] > TRUNCATED:
            wrong["truncated"] = (
                f"{values['truncated']:.0%} of the completions were cut off at grpo.max_tokens={self.grpo.max_tokens}: "
                "try more tokens, grpo.overlong=penalise, or look whether the policy still ends its turns"
            )
        if values["signal"] < SIGNAL:
            wrong["signal"] = (
                f"only {values['signal']:.1%} of the groups have rewards that differ: prompts are too hard or too easy; "
                "try others, a larger grpo.group_size, or a reward for the form"
            )
        return wrong
