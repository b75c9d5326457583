"""Train a model with `llm.train`: from random weights, as `tiny_pl` was made and as a student's baseline, or the teacher on."""

from __future__ import annotations

from dataclasses import asdict

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.models import nemo
from nemo_plugins.training import trainer
from nemo_plugins.training.training import Training


class Pretraining(Training):
    """Trains `model` (or `pretrain.sizes` of it) on text, from random weights or on from the teacher's."""

    key = "pretrain"

    def __init__(self, cfg: Recipe, run: runs.Run):
        super().__init__(cfg, run)
        self.model = runs.architecture(cfg.model).with_sizes(cfg.pretrain.sizes)
        if cfg.pretrain.from_teacher:
            self.source = run.input(runs.uncorrected_teacher(cfg))
            self.tokenizer = nemo.checkpoint_tokenizer(self.source)
        else:
            folder = runs.resolve(str(cfg.model.path))
            self.tokenizer = nemo.tokenizer(folder, run.folder / "tokenizer")
            run.input(folder / "tokenizer.json")

    def module(self):
        if self.source:
            return super().module()
        dtype = trainer.dtype(trainer.precision(self.cfg.platform, self.platform))
        return nemo.module(self.cfg.model, self.model, dtype, self.tokenizer)

    def facts(self) -> dict:
        return {"parameters": self.model.parameters()}

    def next(self) -> str:
        """A corrected teacher is pruned; a model that was trained from the start is exported."""
        if not self.source:
            return super().next()
        left = self.run.folder / self.output
        return runs.command(self.cfg, "prune", *runs.left_by("teacher.path", left, (runs.CORRECTED,)))

    def metrics(self, first, last, validated) -> dict:
        return {"loss_first": first["loss"], "loss_last": last["loss"]}

    def summary(self) -> dict:
        return {"model": {"parameters": self.model.parameters("all"), **asdict(self.model)}, **super().summary()}
