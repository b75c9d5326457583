"""GRPO's rollouts: draw groups of completions, score them, hold them against their group, hand them to the trainer."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from megatron.core import parallel_state

from nemo_plugins import runs
from nemo_plugins.alignment import grpo_weights
from nemo_plugins.alignment.first_rank import on_first_rank, outcome
from nemo_plugins.alignment.grpo_alarms import FAR, MISMATCHED, Alarms
from nemo_plugins.alignment.grpo_batch import HeldoutReward, Rollout, pack
from nemo_plugins.alignment.losses import group_advantages, groups_with_signal
from nemo_plugins.alignment.rewards.scoring import Scorer
from nemo_plugins.alignment.rollout_callback import RolloutCallback, callback, gathered, share
from nemo_plugins.alignment.rollouts import Completion, Request
from nemo_plugins.alignment.rollouts.sampling import uniforms
from nemo_plugins.configs.schema import Overlong, Recipe
from nemo_plugins.data.chat.prompts import Prompt
from nemo_plugins.planning import grpo_plan
from nemo_plugins.training.parameters import settled
from nemo_plugins.training.progress import Metrics


@dataclass
class PromptGroup:
    """A prompt and what came of it."""

    prompt: Prompt
    completions: list[Completion]
    texts: list[str]
    rewards: list[float]  # as they count
    by_reward: dict[str, list[float]]

    @property
    def signal(self) -> bool:
        return bool(groups_with_signal(torch.tensor(self.rewards, dtype=torch.float64), len(self.rewards))[0])


class RewardRollouts(RolloutCallback):
    """Args besides those of `RolloutCallback`:
    decode: from tokens to a completion's words.
    heldout_reward: gets the reward of a validation; training reads its `rows`.
    """

    def __init__(
        self, cfg: Recipe, run: runs.Run, prompts: Mapping[str, Sequence[Prompt]], decode: Callable,
        heldout_reward: HeldoutReward, scorer: Scorer, reference: grpo_weights.FrozenReference | None, engine: Callable,
    ):  # fmt: skip
        super().__init__(run, cfg.run.seed, grpo_plan.updates(cfg), prompts, heldout_reward.rows, engine)
        self.grpo = cfg.grpo
        self.decode = decode
        self.heldout_reward = heldout_reward
        self.scorer = scorer
        self.reference = reference
        self.alarms = Alarms(run, cfg.grpo)
        self.mismatched = 0  # rollouts in a row

    def on_train_start(self, trainer, pl_module) -> None:
        parallel = trainer.strategy.megatron_parallel
        grpo_weights.scale(parallel, self.grpo.temperature)
        if self.reference:
            self.reference.begin(parallel, trainer.global_step)
        self.begin(trainer)
        if not trainer.global_step:
            self.measure(trainer)

    def on_validation_start(self, trainer, pl_module) -> None:
        if trainer.global_step:
            self.measure(trainer)

    def roll(self, trainer, number: int, following: int) -> Rollout:
        """One rollout, the same on every process, with its line of metrics."""
        grpo, began = self.grpo, time.monotonic()
        kept: list[PromptGroup] = []
        idle: list[PromptGroup] = []
        drawn = tokens = 0
        for _ in range(1 + grpo.refill):
            draws = range(following, following + grpo.prompts - len(kept))
            groups = self.groups(draws)
            following, drawn = draws.stop, drawn + len(groups)
            tokens += sum(len(made.ids) for group in groups for made in group.completions)
            kept += [group for group in groups if group.signal]
            idle += [group for group in groups if not group.signal]
            if len(kept) == grpo.prompts or not grpo.refill:
                break
        chosen = (kept + idle)[: grpo.prompts]
        seconds = time.monotonic() - began
        rollout = self.scored(trainer, chosen, following)
        values = {
            "signal": len(kept) / drawn,
            "empty_groups": sum(not group.signal for group in chosen),
            "prompts_drawn": drawn,
            "rollout_seconds": seconds,
            "rollout_tokens_per_second": tokens / seconds,
            "score_seconds": time.monotonic() - began - seconds,
            "reward_failures": sum(self.scorer.failures.values()),
            **_group_means(kept + idle),
            **self.logprob_mismatch(rollout),
        }
        callback(trainer, Metrics).write(trainer, trainer.global_step + 1, values)
        if trainer.is_global_zero:
            self.alarms.look(trainer.global_step + 1, values)
            if number % grpo.samples_every == 0:
                self.samples(trainer.global_step, chosen)
        return rollout

    def groups(self, draws: range) -> list[PromptGroup]:
        """A group for each draw, in their order; data-parallel copies share the work."""
        mine, size = share(draws), self.grpo.group_size
        requests = [
            Request(self.prompt(draw).ids, uniforms(self.seed, draw, sample, self.grpo.max_tokens), draw * size + sample)
            for draw in mine
            for sample in range(size)
        ]

        def answered() -> dict[int, PromptGroup]:
            made = self.engine.complete(requests)
            parts = [made[at : at + size] for at in range(0, len(made), size)]
            return dict(zip(mine, self.score_groups([self.prompt(draw) for draw in mine], parts), strict=True))

        found = gathered(outcome(answered))
        return [found[draw] for draw in draws]

    def score_groups(self, prompts: Sequence[Prompt], completions: Sequence[list[Completion]]) -> list[PromptGroup]:
        """A group of each prompt, scored by one process of a model: a reward need not say the same twice."""
        both = list(zip(prompts, completions, strict=True))
        return on_first_rank(parallel_state.get_model_parallel_group(), lambda: [self.group(*one) for one in both])

    def group(self, prompt: Prompt, completions: list[Completion]) -> PromptGroup:
        texts = [self.decode(made.ids) for made in completions]
        same = len(texts)
        scores = self.scorer.score([prompt.text] * same, texts, [prompt.reference] * same, [prompt.kind] * same)
        rewards = list(scores.totals)
        if self.grpo.overlong is Overlong.penalise:
            rewards = [
                reward - (0 if made.ended else self.grpo.overlong_penalty)
                for reward, made in zip(rewards, completions, strict=True)
            ]
        return PromptGroup(
            prompt, completions, texts, rewards, {name: values for name, values in scores.by_reward.items() if values}
        )

    def scored(self, trainer, groups: list[PromptGroup], following: int) -> Rollout:
        """Advantages, and what trainer and reference think of the completions."""
        grpo, parallel = self.grpo, trainer.strategy.megatron_parallel
        completions = [made for group in groups for made in group.completions]
        rollout = pack([g.prompt.ids for g in groups for _ in g.completions], completions, self.rows.pad, following)
        rewards = torch.tensor([reward for group in groups for reward in group.rewards], dtype=torch.float64)
        rollout.rewards = rewards.float()
        rollout.advantages = group_advantages(rewards, grpo.group_size, kind=grpo.kind.value).float()
        learned = [
            group.signal and (made.ended or grpo.overlong is not Overlong.mask)
            for group in groups
            for made in group.completions
        ]
        rollout.learned = torch.tensor(learned).float()
        answers = rollout.answers()
        rollout.old = grpo_weights.logprobs(parallel, rollout, self.rows, grpo.micro_batch_size) * answers
        if self.reference:
            with self.reference.in_place(parallel):
                rollout.reference = grpo_weights.logprobs(parallel, rollout, self.rows, grpo.micro_batch_size) * answers
        if not self.engine.on_policy:
            rollout.correction = (rollout.old - rollout.engine).exp().clamp(max=grpo.endpoint.cap)
        return rollout

    def logprob_mismatch(self, rollout: Rollout) -> dict[str, float]:
        """How far the engine's log-probabilities are from the trainer's.

        Raises:
            runs.Failed: too far for several rollouts, or much too far, where both have the same weights.
        """
        apart = (rollout.old - rollout.engine)[rollout.answers()].abs()
        mean, most = (float(apart.mean()), float(apart.max())) if len(apart) else (0.0, 0.0)
        if self.engine.fresh:
            self.mismatched = self.mismatched + 1 if mean > self.grpo.max_mismatch else 0
        far = self.engine.fresh and mean > FAR * self.grpo.max_mismatch
        if not math.isfinite(mean) or far or self.mismatched == MISMATCHED:
            raise runs.Failed(
                f"the engine's log-probabilities are {mean:.4g} nats a token from the trainer's, at most {most:.4g}",
                f"expected at most grpo.max_mismatch={self.grpo.max_mismatch:g} from the same weights",
                "do temperature, template, precision and weights of the engine fit? see docs/grpo.md",
            )
        found = {"mismatch": mean, "mismatch_max": most}
        if not self.engine.on_policy and len(apart):
            ratio = (rollout.old - rollout.engine)[rollout.answers()].exp()
            found |= {"staleness": self.engine.age, "capped": float((ratio > self.grpo.endpoint.cap).float().mean())}
        return found

    def measure(self, trainer) -> None:
        """Greedy answers to all held-out prompts: their rewards, and a table of some of them."""
        mine = share(range(len(self.heldout)))
        empty = np.zeros(self.grpo.max_tokens)
        with settled(trainer.strategy.megatron_parallel):
            made = self.engine.local.complete([Request(self.heldout[i].ids, empty) for i in mine], greedy=True)
        scored = outcome(lambda: self.score_groups([self.heldout[i] for i in mine], [[one] for one in made]))
        found = gathered(scored if isinstance(scored, Exception) else dict(zip(mine, scored, strict=True)))
        groups = [found[i] for i in range(len(self.heldout))]
        kinds = sorted({group.prompt.kind for group in groups})
        values = {f"val_{name}": value for name, value in _group_means(groups).items() if name not in ("identical", "entropy")}
        for kind in kinds:
            of = [g.by_reward[kind][0] for g in groups if g.prompt.kind == kind and kind in g.by_reward]
            if of:
                values[f"val_{kind}"] = sum(of) / len(of)
        solved = [g.by_reward[g.prompt.kind][0] == 1 for g in groups if g.prompt.kind in g.by_reward]
        if solved:
            values["val_accuracy"] = sum(solved) / len(solved)
            if trainer.is_global_zero:  # which ones, so that two models can be held against each other prompt by prompt
                runs.folder.write(self.run.folder / "solved" / f"step={trainer.global_step:07d}.json", json.dumps(solved))
        self.heldout_reward.reward = values["val_reward"]
        callback(trainer, Metrics).write(trainer, trainer.global_step, values)

    def samples(self, step: int, groups: list[PromptGroup]) -> None:
        """The best and the worst completion of the first prompts."""
        told = []
        for group in groups[:8]:
            for place in sorted({int(np.argmax(group.rewards)), int(np.argmin(group.rewards))}):
                told.append(
                    {
                        "prompt": group.prompt.text,
                        "answer": group.texts[place],
                        "reference": group.prompt.reference,
                        "reward": group.rewards[place],
                        "tokens": len(group.completions[place].ids),
                    }
                )
        path = self.run.folder / "samples" / f"step={step:07d}.json"
        runs.folder.write(path, json.dumps(told, ensure_ascii=False, indent=1))


def _group_means(groups: Sequence[PromptGroup]) -> dict[str, float]:
    """Means over completions: reward, by kind of reward, length, entropy a token, shares cut off and alike in their group."""
    made = [one for group in groups for one in group.completions]
    rewards = [reward for group in groups for reward in group.rewards]
    entropies = [value for one in made for value in one.entropy]
    found = {
        "reward": sum(rewards) / len(rewards),
        "length": sum(len(one.ids) for one in made) / len(made),
        "truncated": sum(not one.ended for one in made) / len(made),
        "identical": sum(len(g.texts) - len(set(g.texts)) for g in groups) / sum(max(1, len(g.texts) - 1) for g in groups),
    }
    if entropies:
        found["entropy"] = sum(entropies) / len(entropies)
    for name in sorted({name for group in groups for name in group.by_reward}):
        values = [value for group in groups for value in group.by_reward.get(name, ())]
        found[f"reward_{name.replace('/', '_')}"] = sum(values) / len(values)
    return found
