"""Preference training: DPO-Positive and its relatives on pairs, against what the policy thought before its first update.

What NeMo lacks: it has no preference training at all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nemo_plugins import platforms, runs
from nemo_plugins.alignment import policy
from nemo_plugins.alignment.generations import Generations, section
from nemo_plugins.alignment.logprobs import summed
from nemo_plugins.alignment.losses import kl_estimate, preference_loss
from nemo_plugins.alignment.metrics import preference_metrics
from nemo_plugins.alignment.objective import Batch, Measure
from nemo_plugins.alignment.reference import Reference
from nemo_plugins.alignment.samples import Epochs, SampleModule
from nemo_plugins.alignment.sft import CACHE
from nemo_plugins.alignment.watch import Watch
from nemo_plugins.configs.schema import DpoConfig, Preference, Recipe
from nemo_plugins.data.chat import evaluation_items, sets
from nemo_plugins.data.chat.pairs import Pairs
from nemo_plugins.planning import distill_plan, training_plan
from nemo_plugins.training import trainer
from nemo_plugins.training.fit import fit

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


def run(cfg: Recipe, run: runs.Run) -> None:
    """Align the run's student by `dpo.data`."""
    from nemo_plugins.reporting import preference_plots

    dpo, source = cfg.dpo, run.input(runs.policy(cfg, "dpo"))
    model = distill_plan.student(cfg)
    tokenizer, template = policy.tokenizer(source, run.folder / "tokenizer", model.vocab_size, cfg.chat.template)
    cache = runs.run_root(cfg).parents[cfg.run.name.count("/")] / CACHE
    files = {name: [run.input(runs.resolve(path)) for path in getattr(dpo, name)] for name in ("data", "heldout")}

    items = evaluation_items.of(cfg.corpus.decontamination, run.folder / "evaluation_items")

    def pairs(name: str) -> Pairs:
        limits = dict(
            key=f"dpo.{name}", policy=dpo.bad_rows, seq_length=dpo.seq_length, items=items if name == "data" else None
        )
        return Pairs(sets.pairs(files[name], template, cache, **limits), template.pad, 8 * cfg.platform.tensor_parallel)

    train, heldout = pairs("data"), pairs("heldout")
    precision = trainer.precision(cfg.platform, platforms.prepare()).value
    made_of = [runs.fingerprint(source / "weights"), *(runs.fingerprint(path) for name in files for path in files[name])]
    made_of = " ".join([*made_of, template.fingerprint, str(dpo.seq_length), precision])
    sets_of = {"data": train, "heldout": heldout}
    reference = Reference(run.folder / "reference", sets_of, dpo.micro_batch_size, made_of)
    order = train.by_length(dpo.global_batch_size)
    shuffled = Epochs(train, dpo.max_steps, dpo.global_batch_size, cfg.run.seed, order)
    counts = {
        "pairs": len(train),
        "pairs_dropped": train.samples.report["dropped"],
        "tokens": int(train.samples.positions.sum()),
        "heldout_pairs": len(heldout),
    }

    def load() -> tuple[SampleModule, dict[str, int]]:
        sizes = dict(micro_batch_size=dpo.micro_batch_size, global_batch_size=dpo.global_batch_size)
        return SampleModule(shuffled, {"heldout": heldout}, tokenizer, key="dpo", seq_length=dpo.seq_length, **sizes), counts

    spoken = []
    if dpo.prompts and cfg.platform.pipeline_parallel == 1:
        spoken.append(Generations(run.folder, dpo.prompts, template, tokenizer.tokenizer, cfg.model.context_length))
    watch = Watch(METRICS, heldout={name: f"val_{name}" for name in METRICS})
    done = fit(
        cfg,
        run,
        dpo,
        "dpo",
        tokenizer,
        policy.starter(cfg, source, tokenizer, measure(dpo), watch),
        training_plan.flops_per_token(dpo, model),
        watch,
        load=load,
        callbacks=[reference, *spoken],
        tokens_per_step=counts["tokens"] / counts["pairs"] * dpo.global_batch_size,
        facts={
            "student": f"{model.parameters():,} parameters, its own reference before the first update",
            "loss": _loss(dpo),
            "batch": f"{dpo.global_batch_size:,} pairs of at most 2 x {dpo.seq_length:,} tokens",
            "padding": f"{train.padding(dpo.micro_batch_size, shuffled.order(_random(cfg))):.1%} of a micro-batch's places",
            "epochs": f"{dpo.max_steps * dpo.global_batch_size / len(train):.2f}",
        },
        pictures=lambda plots, lines: [*preference_plots.sections(plots, lines), *section(run.folder)],
    )
    lines = list(run.read_metrics()) if run.is_writer else []
    tested = next((line for line in reversed(lines) if "val_margin" in line), {})
    run.finish(
        outputs={**done.outputs, "reference": run.folder / "reference"},
        next=runs.export_command(cfg, run.folder),
        metrics={
            "loss_first": done.first["loss"],
            "loss_last": done.last["loss"],
            "first": done.first["margin"],
            "last": done.last["margin"],
            **{
                name: tested.get(f"val_{name}")
                for name in ("margin", "accuracy", "chosen_shift", "chosen_fell", "reference_kl")
            },
            **done.metrics(),
        },
        data={**done.data, "rows": train.samples.report, "heldout_rows": heldout.samples.report},
    )


def _random(cfg: Recipe):
    import numpy as np

    return np.random.default_rng([cfg.run.seed, 0])


def _loss(dpo: DpoConfig) -> str:
    more = {Preference.dpop: f", lambda {dpo.lam:g} outside beta", Preference.simpo: f", gamma {dpo.gamma:g}"}
    return f"{dpo.kind}, beta {dpo.beta:g}{more.get(dpo.kind, '')}"
