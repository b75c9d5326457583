"""Dialogues beside text in a distillation: windows of which the answers alone count, in the training order and held out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Subset

from nemo_plugins import platforms, runs
from nemo_plugins.alignment.samples import Epochs
from nemo_plugins.configs.schema import Packing, Recipe
from nemo_plugins.data.chat import evaluation_items, sets
from nemo_plugins.data.chat.dataset import DialogueWindows
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.data.mixed import Mixed
from nemo_plugins.data.module import Documents
from nemo_plugins.planning import alignment_plan, distill_plan


class Dialogues:
    """What a distillation learns from beside text, `distill.chats`, and is measured on, `distill.chats_heldout`.

    Attributes:
        windows, heldout: of either; None where no file is named.
        share: of the windows that are dialogues.
        fill: share of a step's places that hold a token.
        rows: what became of the rows of the files, by key.
    """

    def __init__(self, cfg: Recipe, run: runs.Run, template: ChatTemplate):
        self.cfg = cfg
        self.run = run
        self.template = template
        self.rows: dict[str, Any] = {}
        self.thd = alignment_plan.packing(Packing.auto, platforms.has_transformer_engine()) is Packing.thd
        items = evaluation_items.of(cfg.corpus.decontamination, run.folder / "evaluation_items")
        self.windows = self.of("chats", items)
        self.heldout = self.of("chats_heldout")
        self.share = distill_plan.chat_share(cfg.distill)
        self.fill = 1 - self.share * (1 - self.windows.fill) if self.windows else 1.0

    def of(self, name: str, items: evaluation_items.EvaluationItems | None = None) -> DialogueWindows | None:
        """The dialogues of a key in packed windows. Held-out ones count alike, whatever their weight."""
        distill = self.cfg.distill
        files = tuple(self.run.input(runs.resolve(path)) for path in getattr(distill, name))
        if not files:
            return None
        made_of = sets.ChatSet(files, f"distill.{name}", "drop", distill.seq_length, "every", items)
        samples = sets.samples(made_of, self.template, sets.cache(self.cfg))
        self.rows[name] = samples.report
        if name == "chats_heldout":
            samples = dataclasses.replace(samples, weights=np.ones_like(samples.weights))
        return DialogueWindows(samples, distill.seq_length, self.template.pad, self.cfg.run.seed, thd=self.thd)

    @property
    def counts(self) -> dict[str, int]:
        counts = {"dialogues_heldout": len(self.heldout.samples)} if self.heldout else {}
        if not self.windows:
            return counts
        samples = self.windows.samples
        learned = {"dialogue_tokens": int(samples.positions.sum()), "dialogue_tokens_learned": int(samples.learned.sum())}
        return {"dialogues": len(samples), "dialogue_windows": len(self.windows), **learned, **counts}

    def facts(self) -> dict[str, str]:
        """For the report's table."""
        if not self.windows:
            return {}
        counts, distill = self.counts, self.cfg.distill
        drawn = self.share * distill.max_steps * distill.global_batch_size
        read, answers = drawn / len(self.windows), counts["dialogue_tokens_learned"] / counts["dialogue_tokens"]
        faults = ", ".join(f"{kind} {count:,}" for kind, count in self.rows["chats"]["faults"].items())
        return {
            "dialogues": f"{counts['dialogues']:,} in {self.share:.0%} of the windows, each read {read:.2f} times; "
            f"{answers:.1%} of their tokens are answers and count",
            "rows of dialogues that could not be used": faults or "none",
        }

    def add(self, module) -> None:
        """Have the texts' module, a `TextDataModule`, serve them, too.

        Raises:
            runs.UserError: the held-out ones do not fill a global batch.
        """
        distill, size = self.cfg.distill, self.cfg.distill.global_batch_size
        batches = 0
        if self.heldout:
            batches = min(len(self.heldout), self.cfg.data.heldout_samples) // size
            if not batches:
                raise runs.UserError(
                    f"distill.chats_heldout: {len(self.heldout)} windows of {distill.seq_length:,} tokens, a batch has {size}",
                    "expected one global batch at least: more of them, or a smaller distill.global_batch_size",
                )
            module.heldout_sets[distill_plan.CHATS] = batches
            module.heldout_batches += batches
        build = module.build

        def build_with_dialogues(*args, **kwargs) -> None:
            build(*args, **kwargs)
            if self.windows:
                # Transformer Engine is told of every window where its documents end, or of none in a batch
                whole = self.thd and not module.apart
                text = Documents(module._train_ds, None, thd=True) if whole else module._train_ds
                order = Epochs(self.windows, distill.max_steps, size, self.cfg.run.seed)
                module._train_ds = Mixed(text, order, self.share)
            if self.heldout:
                module._validation_ds = ConcatDataset([module._validation_ds, Subset(self.heldout, range(batches * size))])

        module.build = build_with_dialogues
