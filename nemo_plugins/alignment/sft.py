"""Supervised fine-tuning: the assistant's words of packed dialogues, each dialogue with its weight.

What NeMo lacks: its fine-tuning packs with Transformer Engine alone, knows no weights (WICEL) and divides by micro-batch.
"""

from __future__ import annotations

from torch import Tensor

from nemo_plugins import platforms, runs
from nemo_plugins.alignment import lora, policy
from nemo_plugins.alignment.adaptive_rate import AdaptiveRate
from nemo_plugins.alignment.generations import Generations, section
from nemo_plugins.alignment.losses import sft_loss
from nemo_plugins.alignment.objective import Batch
from nemo_plugins.alignment.samples import Epochs, SampleModule
from nemo_plugins.alignment.watch import Watch
from nemo_plugins.configs.schema import Packing, Recipe
from nemo_plugins.data.chat import evaluation_items, sets
from nemo_plugins.data.chat.dataset import Windows
from nemo_plugins.planning import alignment_plan, distill_plan, training_plan
from nemo_plugins.training.fit import fit

CACHE = ".chats"  # below run.root: encoded dialogues, shared by its runs


def measure(batch: Batch, logp: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Weighted cross-entropy summed over the learned tokens of `[b, s]`, and how many they are."""
    mask = batch["loss_mask"]
    total = sft_loss(logp, mask, mask, tokens=1.0)
    return total, (mask > 0).sum(), {"loss": total}


def run(cfg: Recipe, run: runs.Run) -> None:
    """Fine-tune the run's student on `sft.data`."""
    sft, source = cfg.sft, run.input(runs.policy(cfg, "sft"))
    model = distill_plan.student(cfg)
    tokenizer, template = policy.tokenizer(source, run.folder / "tokenizer", model.vocab_size, cfg.chat.template)
    which = alignment_plan.packing(sft.packing, platforms.has_transformer_engine())
    cache = runs.run_root(cfg).parents[cfg.run.name.count("/")] / CACHE

    items = evaluation_items.of(cfg.corpus.decontamination, run.folder / "evaluation_items")

    def windows(name: str) -> Windows:
        files = [run.input(runs.resolve(path)) for path in getattr(sft, name)]
        samples = sets.dialogues(
            files, template, cache, key=f"sft.{name}", policy=sft.bad_rows, seq_length=sft.seq_length, learn=sft.learn,
            items=items if name == "data" else None,
        )  # fmt: skip
        packed = which is not Packing.none
        return Windows(samples, sft.seq_length, template.pad, cfg.run.seed, packed=packed, thd=which is Packing.thd)

    train, heldout = windows("data"), windows("heldout")
    counts = {
        "dialogues": len(train.samples),
        "dialogues_dropped": train.samples.report["dropped"],
        "windows": len(train),
        "tokens": int(train.samples.positions.sum()),
        "tokens_learned": int(train.samples.learned.sum()),
        "heldout_dialogues": len(heldout.samples),
    }

    def load() -> tuple[SampleModule, dict[str, int]]:
        sizes = dict(micro_batch_size=sft.micro_batch_size, global_batch_size=sft.global_batch_size)
        shuffled = Epochs(train, sft.max_steps, sft.global_batch_size, cfg.run.seed)
        return SampleModule(shuffled, {"heldout": heldout}, tokenizer, key="sft", seq_length=sft.seq_length, **sizes), counts

    watch, trained = Watch(("loss",), heldout={"loss": "val_loss"}), lora.adapters(sft.lora)
    extra = [trained] if trained else []
    if sft.prompts and cfg.platform.pipeline_parallel == 1:
        extra.append(Generations(run.folder, sft.prompts, template, tokenizer.tokenizer, cfg.model.context_length))
    if sft.adaptive_tokens:
        extra.append(AdaptiveRate(sft.adaptive_tokens, watch))
    done = fit(
        cfg,
        run,
        sft,
        "sft",
        tokenizer,
        policy.starter(cfg, source, tokenizer, measure, watch, trained),
        training_plan.flops_per_token(sft, model),
        watch,
        load=load,
        callbacks=extra,
        pictures=lambda plots, lines: section(run.folder),
        leave="adapters" if trained else "checkpoint",
        tokens_per_step=sft.global_batch_size * sft.seq_length * train.fill,
        facts={
            "student": f"{model.parameters():,} parameters",
            "trained": f"adapters of rank {sft.lora.dim}, alpha {sft.lora.alpha}" if trained else "all weights",
            "packing": f"{which}, {train.fill:.1%} of the places filled",
            "epochs": f"{sft.max_steps * sft.global_batch_size / len(train):.2f}",
            "rows that could not be used": _faults(train.samples.report),
        },
    )
    if trained:
        lora.merge(source, done.outputs["adapters"], run.folder / "checkpoint")
        done.outputs["checkpoint"] = run.folder / "checkpoint"
    run.finish(
        outputs=done.outputs,
        next=runs.command(cfg, "dpo", *runs.left_by("student.path", run.folder / "checkpoint", runs.students())),
        metrics={
            "loss_first": done.first["loss"],
            "loss_last": done.last["loss"],
            "first": done.first["loss"],
            "last": done.last["loss"],
            "fill": train.fill,
            **done.metrics(),
        },
        data={**done.data, "rows": train.samples.report, "heldout_rows": heldout.samples.report},
    )


def _faults(report: dict) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in report["faults"].items()) or "none"
