"""Preference training: DPO-Positive and its relatives on pairs, against what the policy thought before its first update.

What NeMo lacks: it has no preference training at all.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nemo_plugins import runs
from nemo_plugins.alignment.losses import kl_estimate, preference_loss, preference_metrics, summed
from nemo_plugins.alignment.objective import Batch, Measure
from nemo_plugins.alignment.policy import PolicyTraining
from nemo_plugins.alignment.reference import ReferenceLogprobs
from nemo_plugins.alignment.samples import Epochs
from nemo_plugins.configs.schema import DpoConfig, Preference, Recipe
from nemo_plugins.data.chat import sets
from nemo_plugins.data.chat.pairs import Pairs
from nemo_plugins.reporting import preference_plots
from nemo_plugins.training import generations, trainer
from nemo_plugins.training.metric_sums import MetricSums

METRICS = (
    "loss", "margin", "accuracy", "reward_chosen", "reward_rejected", "logp_chosen", "logp_rejected", "chosen_shift",
    "chosen_fell", "reference_kl",
)  # fmt: skip


def measure(dpo: DpoConfig) -> Measure:
    """The loss of a batch of pairs `[b, 2, s]`, summed over the pairs, and the sums of what is watched.

    `reference_kl` is the drift from the reference on a pair's answers, the mean over their tokens (`losses.kl_estimate`).
    """

    def of(batch: Batch, logp: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        mask, reference = batch["loss_mask"], batch["reference"]
        logp = logp.view(mask.shape)
        (w, loser), (ref_w, ref_l) = summed(logp, mask).unbind(1), summed(reference, mask).unbind(1)
        tokens_w, tokens_l = (mask > 0).sum(-1).unbind(1)
        losses = preference_loss(
            dpo.kind.value, w, loser, ref_w, ref_l, beta=dpo.beta, lam=dpo.lam, gamma=dpo.gamma,
            tokens_w=tokens_w, tokens_l=tokens_l,
        )  # fmt: skip
        pairs = torch.tensor(len(losses), device=losses.device)
        means = preference_metrics(w, loser, ref_w, ref_l, beta=dpo.beta)
        sums = {name: value * pairs for name, value in means.items()}
        drift = kl_estimate(logp.detach(), reference).masked_fill(mask == 0, 0).sum((1, 2)) / (tokens_w + tokens_l)
        return losses.sum(), pairs, {"loss": losses.sum(), "reference_kl": drift.sum(), **sums}

    return of


class PreferenceTraining(PolicyTraining):
    """Aligns the student by the pairs of `dpo.data`."""

    key = "dpo"

    def __init__(self, cfg: Recipe, run: runs.Run):
        super().__init__(cfg, run)
        dpo = cfg.dpo
        self.pairs = self.set_of("data")
        self.samples = Epochs(
            self.pairs, dpo.max_steps, dpo.global_batch_size, cfg.run.seed, self.pairs.by_length(dpo.global_batch_size)
        )
        self.heldout = self.set_of("heldout")
        self.rows = {"data": self.pairs.samples.report, "heldout": self.heldout.samples.report}
        self.counts = {
            "pairs": len(self.pairs),
            "pairs_dropped": self.rows["data"]["dropped"],
            "tokens": int(self.pairs.samples.positions.sum()),
            "heldout_pairs": len(self.heldout),
        }
        self.tokens_per_step = self.counts["tokens"] / self.counts["pairs"] * dpo.global_batch_size
        self.measure = measure(dpo)
        self.watch = MetricSums(METRICS, heldout={name: f"val_{name}" for name in METRICS})
        weights = [runs.fingerprint(self.source / "weights")]
        of_files = [runs.fingerprint(path) for name in sets.SETS for path in self.files(name)]
        precision = trainer.precision(cfg.platform, self.platform).value
        made_of = " ".join([*weights, *of_files, self.template.fingerprint, str(dpo.seq_length), precision])
        sets_of = {"data": self.pairs, "heldout": self.heldout}
        self.reference = ReferenceLogprobs(run.folder / "reference", sets_of, dpo.micro_batch_size, made_of)

    def set_of(self, name: str) -> Pairs:
        """The pairs of a set."""
        return Pairs(self.encoded(name), self.template.pad, 8 * self.cfg.platform.tensor_parallel)

    def callbacks(self, common: list) -> list:
        return [self.reference, *self.generations(self.cfg.dpo.prompts), *common]

    def facts(self) -> dict:
        dpo = self.cfg.dpo
        more = {Preference.dpop: f", lambda {dpo.lam:g} outside beta", Preference.simpo: f", gamma {dpo.gamma:g}"}
        order = self.samples.order(np.random.default_rng([self.cfg.run.seed, 0]))
        return {
            "student": f"{self.model.parameters():,} parameters, its own reference before the first update",
            "loss": f"{dpo.kind}, beta {dpo.beta:g}{more.get(dpo.kind, '')}",
            "batch": f"{dpo.global_batch_size:,} pairs of at most 2 x {dpo.seq_length:,} tokens",
            "padding": f"{self.pairs.padding(dpo.micro_batch_size, order):.1%} of a micro-batch's places",
            "epochs": f"{dpo.max_steps * dpo.global_batch_size / len(self.pairs):.2f}",
        }

    def sections(self, plots, lines) -> list:
        return [*preference_plots.sections(plots, lines), *generations.section(self.run.folder)]

    def outputs(self) -> dict:
        return {"reference": self.run.folder / "reference"}

    def metrics(self, first, last, validated) -> dict:
        lines = list(self.run.read_metrics()) if self.run.is_writer else []
        tested: dict[str, float | None] = next((line for line in reversed(lines) if "val_margin" in line), {})
        names = ("margin", "accuracy", "chosen_shift", "chosen_fell", "reference_kl")
        return {
            "loss_first": first["loss"],
            "loss_last": last["loss"],
            "first": first["margin"],
            "last": last["margin"],
            **{name: tested.get(f"val_{name}") for name in names},
        }
