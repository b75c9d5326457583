"""Supervised fine-tuning: the assistant's words of packed dialogues, each dialogue with its weight.

What NeMo lacks: its fine-tuning packs with Transformer Engine alone, knows no weights (WICEL) and divides by micro-batch.
"""

from __future__ import annotations

from torch import Tensor

from nemo_plugins import platforms, runs
from nemo_plugins.alignment import lora
from nemo_plugins.alignment.adaptive_rate import AdaptiveRate
from nemo_plugins.alignment.losses import sft_loss
from nemo_plugins.alignment.objective import Batch
from nemo_plugins.alignment.policy import PolicyTraining
from nemo_plugins.alignment.samples import Epochs
from nemo_plugins.configs.schema import Packing, Recipe
from nemo_plugins.data.chat.dataset import DialogueWindows
from nemo_plugins.planning import alignment_plan
from nemo_plugins.training import generations
from nemo_plugins.training.metric_sums import MetricSums


class SupervisedFineTuning(PolicyTraining):
    """Fine-tunes the student on `sft.data`; with `sft.lora` it trains adapters, which are merged in the end."""

    key = "sft"

    def __init__(self, cfg: Recipe, run: runs.Run):
        super().__init__(cfg, run)
        sft = cfg.sft
        self.packing = alignment_plan.packing(sft.packing, platforms.has_transformer_engine())
        self.windows = self.set_of("data")
        self.samples = Epochs(self.windows, sft.max_steps, sft.global_batch_size, cfg.run.seed)
        self.heldout = self.set_of("heldout")
        dialogues = self.windows.samples
        self.rows = {"data": dialogues.report, "heldout": self.heldout.samples.report}
        self.counts = {
            "dialogues": len(dialogues),
            "dialogues_dropped": dialogues.report["dropped"],
            "windows": len(self.windows),
            "tokens": int(dialogues.positions.sum()),
            "tokens_learned": int(dialogues.learned.sum()),
            "heldout_dialogues": len(self.heldout.samples),
        }
        self.tokens_per_step *= self.windows.fill
        self.watch = MetricSums(("loss",), heldout={"loss": "val_loss"})
        self.adapters = lora.adapters(sft.lora)
        if self.adapters:
            self.output = "adapters"

    def set_of(self, name: str) -> DialogueWindows:
        """The dialogues of a set in windows."""
        sft = self.cfg.sft
        samples = self.encoded(name)
        packed, thd = self.packing is not Packing.none, self.packing is Packing.thd
        return DialogueWindows(samples, sft.seq_length, self.template.pad, self.cfg.run.seed, packed=packed, thd=thd)

    @staticmethod
    def measure(batch: Batch, logp: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Weighted cross-entropy summed over the learned tokens of `[b, s]`, and how many they are."""
        mask = batch["loss_mask"]
        total = sft_loss(logp, mask, mask, tokens=1.0)
        return total, (mask > 0).sum(), {"loss": total}

    def callbacks(self, common: list) -> list:
        tokens = self.cfg.sft.adaptive_tokens
        transform = [self.adapters] if self.adapters else []  # NeMo's PEFT is a callback, too
        rate = [AdaptiveRate(tokens, self.watch)] if tokens else []
        return [*transform, *self.generations(self.cfg.sft.prompts), *rate, *common]

    def facts(self) -> dict:
        sft = self.cfg.sft
        faults = ", ".join(f"{kind} {count:,}" for kind, count in self.rows["data"]["faults"].items())
        return {
            "student": f"{self.model.parameters():,} parameters",
            "trained": f"adapters of rank {sft.lora.dim}, alpha {sft.lora.alpha}" if self.adapters else "all weights",
            "packing": f"{self.packing}, {self.windows.fill:.1%} of the places filled",
            "epochs": f"{sft.max_steps * sft.global_batch_size / len(self.windows):.2f}",
            "rows that could not be used": faults or "none",
        }

    def sections(self, plots, lines) -> list:
        return generations.section(self.run.folder)

    def outputs(self) -> dict:
        """The whole checkpoint where adapters were trained: merged into the weights that they were trained on."""
        if not self.adapters:
            return {}
        checkpoint = self.run.folder / "checkpoint"
        lora.merge(self.source, self.run.folder / self.output, checkpoint)
        return {"checkpoint": checkpoint}

    def next(self) -> str:
        return runs.command(self.cfg, "dpo", *runs.left_by("student.path", self.run.folder / "checkpoint", runs.students()))

    def metrics(self, first, last, validated) -> dict:
        return {
            "loss_first": first["loss"],
            "loss_last": last["loss"],
            "first": first["loss"],
            "last": last["loss"],
            "fill": self.windows.fill,
        }
