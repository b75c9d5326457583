"""Training by rewards that can be checked: GRPO and Dr. GRPO on the policy's own answers.

What NeMo lacks: it has no reinforcement learning.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nemo_plugins import runs
from nemo_plugins.alignment import policy
from nemo_plugins.alignment.grpo_batch import Rows, Told
from nemo_plugins.alignment.losses import bounded_log_ratio, grpo_loss, kl_estimate
from nemo_plugins.alignment.objective import Batch, Measure
from nemo_plugins.alignment.rewards.scoring import Scorer
from nemo_plugins.alignment.samples import SampleModule
from nemo_plugins.alignment.watch import Watch
from nemo_plugins.configs.schema import Engine, GrpoConfig, Recipe
from nemo_plugins.data.chat import evaluation_items
from nemo_plugins.data.chat import prompts as chat_prompts
from nemo_plugins.planning import distill_plan, grpo_plan, training_plan
from nemo_plugins.training import checkpoints
from nemo_plugins.training.fit import fit

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
            clip_high=grpo.clip_high, kl_coef=grpo.kl_coef, max_tokens=grpo.max_tokens, correction=batch["correction"],
            max_log_ratio=grpo.max_log_ratio,
        )  # fmt: skip
        with torch.no_grad():
            answer = batch["answer_mask"] > 0
            tokens = answer.sum(-1).clamp_min(1)

            def mean(values: Tensor) -> Tensor:
                return (values.masked_fill(~answer, 0).sum(-1) / tokens).sum()

            ratio = bounded_log_ratio(logp - old, grpo.max_log_ratio).exp()
            sign = batch["advantages"].sign().unsqueeze(-1)
            held = ((ratio < 1 - grpo.clip_low) & (sign < 0)) | ((ratio > 1 + grpo.clip_high) & (sign > 0))
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


def run(cfg: Recipe, run: runs.Run) -> None:
    """Train the run's student by `grpo.data`."""
    from nemo_plugins.alignment.grpo_rollout import Rollouts
    from nemo_plugins.alignment.grpo_weights import FrozenReference
    from nemo_plugins.reporting import grpo_plots

    grpo, source = cfg.grpo, run.input(runs.policy(cfg, "grpo"))
    model = distill_plan.student(cfg)
    tokenizer, template = policy.tokenizer(source, run.folder / "tokenizer", model.vocab_size, cfg.chat.template)
    options = grpo_plan.options(cfg)
    for own in grpo.own_rewards.values():
        run.input(Path(own.rpartition(":")[0]))
    items = evaluation_items.of(cfg.corpus.decontamination, run.folder / "evaluation_items")
    prompts, reports = {}, {}
    for name in ("data", "heldout"):
        files = [run.input(runs.resolve(path)) for path in getattr(grpo, name)]
        prompts[name], reports[name] = chat_prompts.load(
            files, template, chat_prompts.checker(grpo.rewards, options, grpo.own_rewards), key=f"grpo.{name}",
            policy=grpo.bad_rows.value, longest=grpo.seq_length - grpo.max_tokens, items=items if name == "data" else None,
        )  # fmt: skip
        if not prompts[name]:
            raise runs.UserError(f"grpo.{name} holds no prompt that can be used", f"what became of its rows: {reports[name]}")
    per_rollout = grpo.prompts * grpo.group_size
    rows = Rows(
        (grpo.max_steps + 1) * grpo.global_batch_size, per_rollout, grpo.epochs, cfg.run.seed, template.pad,
        8 * cfg.platform.tensor_parallel,
    )  # fmt: skip
    told = Told(rows, grpo.global_batch_size)

    def decode(ids: list[int]) -> str:
        return tokenizer.tokenizer.decode(ids, skip_special_tokens=True)

    def engine(megatron_model, lightning_trainer):
        from nemo_plugins.alignment.rollouts.megatron import MegatronEngine

        local = MegatronEngine(megatron_model, template.ends, grpo.rollout_batch)
        if grpo.engine is Engine.megatron:
            return local
        from nemo_plugins.alignment.rollouts.endpoint import EndpointEngine

        save = functools.partial(checkpoints.save, lightning_trainer, weights_only=True)
        return EndpointEngine(grpo.endpoint, run.folder / "endpoint", template.ends, grpo.temperature, local, save)

    reference = FrozenReference(run.folder / "reference") if grpo.kl_coef else None
    scorer = Scorer(grpo.rewards, options, grpo.own_rewards)
    rollouts = Rollouts(
        grpo, run, prompts["data"], prompts["heldout"], decode, rows, told, scorer, reference,
        engine, grpo_plan.updates(cfg), cfg.run.seed,
    )  # fmt: skip
    counts = {"prompts": len(prompts["data"]), "heldout_prompts": len(prompts["heldout"])}

    def load() -> tuple[SampleModule, dict[str, int]]:
        sizes = dict(micro_batch_size=grpo.micro_batch_size, global_batch_size=grpo.global_batch_size)
        return SampleModule(rows, {"heldout": told}, tokenizer, key="grpo", seq_length=grpo.seq_length, **sizes), counts

    watch = Watch(METRICS, heldout={})
    done = fit(
        cfg,
        run,
        grpo,
        "grpo",
        tokenizer,
        policy.starter(cfg, source, tokenizer, measure(grpo), watch),
        training_plan.flops_per_token(grpo, model),
        watch,
        load=load,
        after=[rollouts],
        tokens_per_step=grpo.global_batch_size * _length(prompts["data"], grpo),
        facts={
            "student": f"{model.parameters():,} parameters, its own reference before the first update",
            "loss": f"{grpo.kind}, clip {grpo.clip_low:g} / {grpo.clip_high:g}, KL {grpo.kl_coef:g}",
            "batch": f"{grpo.global_batch_size:,} completions of {grpo.prompts:,} x {grpo.group_size} in a rollout",
            "completions": f"at most {grpo.max_tokens:,} tokens at temperature {grpo.temperature:g}, engine {grpo.engine}",
            "tokens": f"{grpo.max_steps * grpo.global_batch_size * grpo.max_tokens:,} of completions at most",
        },
        pictures=lambda plots, lines: grpo_plots.sections(plots, lines, run.folder),
    )
    lines = list(run.read_metrics()) if run.is_writer else []
    tested = [line for line in lines if "val_reward" in line]
    rolled = [line for line in lines if "rollout_tokens_per_second" in line]
    last = tested[-1] if tested else {}
    run.finish(
        outputs={**done.outputs, "rollouts": run.folder / "rollouts"},
        next=runs.export_command(cfg, run.folder),
        metrics={
            "first": tested[0].get("val_accuracy") if tested else None,
            "last": last.get("val_accuracy"),
            "reward_first": tested[0].get("val_reward") if tested else None,
            "reward_last": last.get("val_reward"),
            "kl": done.last.get("kl"),
            "rollout_tokens_per_second": rollout_speed(rolled),
            "mismatch": max((line["mismatch"] for line in rolled), default=None),
            "reward_failures": sum(scorer.failures.values()),
            **done.metrics(),
        },
        data={**done.data, "rows": reports["data"], "heldout_rows": reports["heldout"]},
    )


def rollout_speed(lines: Sequence[Mapping[str, float]]) -> float | None:
    """Tokens a second of all rollouts together; None of none."""
    seconds = sum(line["rollout_seconds"] for line in lines)
    return sum(line["rollout_tokens_per_second"] * line["rollout_seconds"] for line in lines) / seconds if seconds else None


def _length(prompts, grpo: GrpoConfig) -> float:
    """Tokens of a sequence as the trainer's rate counts them: the mean prompt and the longest completion."""
    return sum(len(prompt.ids) for prompt in prompts) / len(prompts) + grpo.max_tokens
