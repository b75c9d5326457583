"""What the alignment stages share: the student with a chat template, trained by another loss than NeMo's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from nemo_plugins import runs
from nemo_plugins.alignment import chat_files
from nemo_plugins.alignment.objective import Measure, install_objective
from nemo_plugins.alignment.samples import SampleModule
from nemo_plugins.configs.schema import ChatSource, Recipe
from nemo_plugins.data.chat import evaluation_items, sets, store
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.models import nemo
from nemo_plugins.runs import sizes
from nemo_plugins.training import generations
from nemo_plugins.training.metric_sums import MetricSums
from nemo_plugins.training.training import Training


class PolicyTraining(Training):
    """Trains the student that the run's earlier stages left.

    Attributes:
        template: its chat template.
        items: evaluation items that no row may hold, None where the configuration names none.
        measure: the loss, and what is logged beside it. A subclass sets it, and `watch`.
        samples, heldout: what it learns from, in the order of training, and what it is validated on. A subclass sets both.
        rows: what became of the rows of the files, by set (`data`, `heldout`). A subclass sets it.
    """

    source: Path
    watch: MetricSums
    measure: Measure
    samples: Dataset
    heldout: Dataset
    rows: Mapping[str, Mapping[str, Any]]

    def __init__(self, cfg: Recipe, run: runs.Run):
        super().__init__(cfg, run)
        self.source = run.input(runs.policy(cfg, self.key))
        self.model = sizes.student(cfg)
        description = run.folder / "tokenizer"
        self.tokenizer, self.template = tokenizer(self.source, description, self.model.vocab_size, cfg.chat.template)
        self.cache = sets.cache(cfg)
        self.items = evaluation_items.of(cfg.corpus.decontamination, run.folder / "evaluation_items")

    def files(self, name: str) -> list[Path]:
        """The files of a set, noted as inputs."""
        return [self.run.input(runs.resolve(path)) for path in getattr(self.train, name)]

    def encoded(self, name: str) -> store.Samples:
        """The encoded samples of a set, whose files are noted as inputs."""
        self.files(name)
        return sets.samples(sets.of(self.cfg, self.key, name, self.items), self.template, self.cache)

    def generations(self, prompts: list[str]) -> list[generations.Generations]:
        """The callback that answers prompts at each validation; none where there are none."""
        asked = {
            prompt: self.template.ids([{"role": "user", "content": prompt}], add_generation_prompt=True) for prompt in prompts
        }
        return generations.of(self.cfg, self.run.folder, asked, self.template.ends, self.tokenizer.tokenizer)

    def data(self) -> SampleModule:
        return SampleModule(
            self.samples,
            {"heldout": self.heldout},
            self.tokenizer,
            key=self.key,
            seq_length=self.train.seq_length,
            micro_batch_size=self.train.micro_batch_size,
            global_batch_size=self.train.global_batch_size,
        )

    def module(self):
        module = super().module()
        install_objective(module, self.measure, self.watch)
        return module

    def summary(self) -> dict[str, Any]:
        return {"data": {**self.counts, "rows": self.rows["data"], "heldout_rows": self.rows["heldout"]}}


def tokenizer(checkpoint: Path, description: Path, vocabulary: int, source: ChatSource) -> tuple[object, ChatTemplate]:
    """NeMo's tokenizer of a checkpoint over a copy of its files in `description`, and its chat template.

    Every folder that is exported later has these files: the template that the dialogues are written with, and what ends a turn
    among the tokens that stop a generation.

    Raises:
        UserError: as `ChatTemplate`.
    """
    made = nemo.tokenizer(nemo.description_of(checkpoint), description)
    if source is ChatSource.chatml:
        chat_files.write_chatml(made.tokenizer, description)
        made = nemo.tokenizer(description, description)
    template = ChatTemplate(made.tokenizer, vocabulary)
    chat_files.stop_at(description, template)
    return made, template
