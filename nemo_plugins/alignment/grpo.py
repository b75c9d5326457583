"""Training by rewards that can be checked: GRPO and its relatives on the policy's own answers.

What NeMo lacks: it has no reinforcement learning.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from nemo.utils.model_utils import unwrap_model
from torch import Tensor, distributed

from nemo_plugins import runs
from nemo_plugins.alignment.first_rank import on_first_rank
from nemo_plugins.alignment.grpo_batch import HeldoutReward, Rows
from nemo_plugins.alignment.grpo_rollout import RewardRollouts
from nemo_plugins.alignment.grpo_weights import FrozenReference
from nemo_plugins.alignment.losses import clipped, grpo_loss, importance_ratio, kl_estimate
from nemo_plugins.alignment.objective import Batch, Measure
from nemo_plugins.alignment.policy import PolicyTraining
from nemo_plugins.alignment.rewards.scoring import Scorer
from nemo_plugins.alignment.rollouts.endpoint import EndpointEngine
from nemo_plugins.alignment.rollouts.megatron import MegatronEngine
from nemo_plugins.configs.schema import Engine, GrpoConfig, Recipe
from nemo_plugins.data.chat import prompts as chat_prompts
from nemo_plugins.models import conversion, whole
from nemo_plugins.planning import grpo_plan
from nemo_plugins.reporting import grpo_plots
from nemo_plugins.training.metric_sums import MetricSums

METRICS = ("loss", "learned_reward", "kl", "clip_fraction", "ratio", "ratio_max")


def measure(grpo: GrpoConfig) -> Measure:
    """The loss of a micro-batch `[b, s]`, summed over its completions, and the sums of what is watched.

    Divided by the update's completions it is `losses.grpo_loss` of the whole update, whatever its micro-batches and ranks. A
    completion that is not learned from adds 0 and counts. The loss of held-out rows is 1 − reward.
    """

    def of(batch: Batch, logp: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        rewards, mask = batch["rewards"], batch["loss_mask"]
        rows = torch.tensor(len(rewards), device=rewards.device)
        if bool(batch["heldout"][0]):
            total = (1 - rewards).sum() + 0 * logp.sum()
            zeros = torch.zeros_like(total)
            return total, rows, {**dict.fromkeys(METRICS, zeros), "loss": total, "learned_reward": rewards.sum()}
        old, reference = batch["old"], batch["reference"] if grpo.kl_coef else None
        total = rows * grpo_loss(
            logp, old, reference, batch["advantages"], mask, kind=grpo.kind.value, clip_low=grpo.clip_low,
            clip_high=grpo.clip_high, kl_coef=grpo.kl_coef, max_tokens=grpo.max_tokens, tokens=batch["mean_tokens"].sum(),
            correction=batch["correction"], max_log_ratio=grpo.max_log_ratio,
        )  # fmt: skip
        with torch.no_grad():
            answer = batch["answer_mask"] > 0
            tokens = answer.sum(-1).clamp_min(1)

            def mean(values: Tensor) -> Tensor:
                return (values.masked_fill(~answer, 0).sum(-1) / tokens).sum()

            kind = grpo.kind.value
            ratio = importance_ratio(logp, old, answer, kind=kind, max_log_ratio=grpo.max_log_ratio)
            held = clipped(ratio, batch["advantages"], kind=kind, clip_low=grpo.clip_low, clip_high=grpo.clip_high)
            watched = {
                "loss": total,
                "learned_reward": rewards.sum(),
                "kl": mean(kl_estimate(logp, reference, max_log_ratio=grpo.max_log_ratio))
                if grpo.kl_coef
                else torch.zeros_like(total),
                "clip_fraction": mean(held.float()),
                "ratio": mean(ratio),
                "ratio_max": ratio.masked_fill(~answer, 0).amax(-1).sum(),
            }
        return total, rows, watched

    return of


class RewardTraining(PolicyTraining):
    """Trains the student on its own answers to the prompts of `grpo.data`."""

    key = "grpo"

    def __init__(self, cfg: Recipe, run: runs.Run):
        super().__init__(cfg, run)
        grpo, options = cfg.grpo, grpo_plan.options(cfg)
        for own in grpo.own_rewards.values():
            run.input(Path(own.rpartition(":")[0]))
        self.prompts, self.rows = {}, {}
        for name in ("data", "heldout"):
            self.prompts[name], self.rows[name] = chat_prompts.load(
                self.files(name), self.template, chat_prompts.checker(grpo.rewards, options, grpo.own_rewards),
                key=f"grpo.{name}", policy=grpo.bad_rows.value, longest=grpo.seq_length - grpo.max_tokens,
                items=self.items if name == "data" else None,
            )  # fmt: skip
            if not self.prompts[name]:
                became = f"what became of its rows: {self.rows[name]}"
                raise runs.UserError(f"grpo.{name} holds no prompt that can be used", became)
        self.counts = {"prompts": len(self.prompts["data"]), "heldout_prompts": len(self.prompts["heldout"])}
        self.samples = Rows(
            (grpo.max_steps + 1) * grpo.global_batch_size, grpo.prompts * grpo.group_size, grpo.global_batch_size, grpo.epochs,
            cfg.run.seed, self.template.pad, 8 * cfg.platform.tensor_parallel,
        )  # fmt: skip
        self.heldout = HeldoutReward(self.samples)
        mean_prompt = sum(len(prompt.ids) for prompt in self.prompts["data"]) / len(self.prompts["data"])
        self.tokens_per_step = grpo.global_batch_size * (mean_prompt + grpo.max_tokens)  # the longest completion
        self.measure = measure(grpo)
        self.watch = MetricSums(METRICS, heldout={})
        self.scorer = Scorer(grpo.rewards, options, grpo.own_rewards)
        reference = FrozenReference(run.folder / "reference") if grpo.kl_coef else None
        self.rollouts = RewardRollouts(cfg, run, self.prompts, self.decode, self.heldout, self.scorer, reference, self.engine)

    def decode(self, ids: list[int]) -> str:
        """A completion's words."""
        return self.tokenizer.tokenizer.decode(ids, skip_special_tokens=True)

    def engine(self, megatron_model, lightning_trainer) -> MegatronEngine | EndpointEngine:
        """What draws the completions."""
        grpo, ends = self.cfg.grpo, self.template.ends
        local = MegatronEngine(megatron_model, ends, grpo.rollout_batch)
        if grpo.engine is Engine.megatron:
            return local
        export = functools.partial(self.export, lightning_trainer.strategy.megatron_parallel)
        folder = (self.run.folder / "endpoint" / "hf").absolute()  # the server is started elsewhere
        return EndpointEngine(grpo.endpoint, folder, ends, grpo.temperature, local, export)

    def export(self, parallel, to: Path) -> None:
        """Write the weights of this moment, in the type in which they are trained, whatever the teacher's is."""
        weights, config = whole.gather(parallel), unwrap_model(parallel[0]).config
        model = conversion.Weights(config, {name: weight.to(config.params_dtype) for name, weight in weights.items()})
        description = self.run.folder / "tokenizer"
        on_first_rank(distributed.group.WORLD, lambda: conversion.write_hf(model, description, to, config.params_dtype))

    def callbacks(self, common: list) -> list:
        return [*common, self.rollouts]  # last: a checkpoint that is due is written before a rollout

    def facts(self) -> dict:
        grpo = self.cfg.grpo
        return {
            "student": f"{self.model.parameters():,} parameters, its own reference before the first update",
            "loss": f"{grpo.kind}, clip {grpo.clip_low:g} / {grpo.clip_high:g}, KL {grpo.kl_coef:g}",
            "batch": f"{grpo.global_batch_size:,} completions of {grpo.prompts:,} x {grpo.group_size} in a rollout",
            "completions": f"at most {grpo.max_tokens:,} tokens at temperature {grpo.temperature:g}, engine {grpo.engine}",
            "tokens": f"{grpo.max_steps * grpo.global_batch_size * grpo.max_tokens:,} of completions at most",
        }

    def sections(self, plots, lines) -> list:
        return grpo_plots.sections(plots, lines, self.run.folder)

    def outputs(self) -> dict:
        return {"rollouts": self.run.folder / "rollouts"}

    def metrics(self, first, last, validated) -> dict:
        lines = list(self.run.read_metrics()) if self.run.is_writer else []
        tested = [line for line in lines if "val_reward" in line] or [{}]
        rolled = [line for line in lines if "rollout_tokens_per_second" in line]
        return {
            "first": tested[0].get("val_accuracy"),
            "last": tested[-1].get("val_accuracy"),
            "reward_first": tested[0].get("val_reward"),
            "reward_last": tested[-1].get("val_reward"),
            "kl": last.get("kl"),
            "rollout_tokens_per_second": rollout_speed(rolled),
            "mismatch": max((line["mismatch"] for line in rolled), default=None),
            "reward_failures": sum(self.scorer.failures.values()),
        }


def rollout_speed(lines: Sequence[Mapping[str, float]]) -> float | None:
    """Tokens a second of all rollouts together; None of none."""
    seconds = sum(line["rollout_seconds"] for line in lines)
    return sum(line["rollout_tokens_per_second"] * line["rollout_seconds"] for line in lines) / seconds if seconds else None
