"""The student that an alignment stage trains on: its checkpoint as NeMo's module, its tokenizer with a chat template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nemo_plugins.alignment import chat_files
from nemo_plugins.alignment.objective import Measure, pursue
from nemo_plugins.alignment.watch import Watch
from nemo_plugins.configs.schema import ChatSource, Recipe
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.models import nemo


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


def starter(
    cfg: Recipe, checkpoint: Path, nemo_tokenizer, measure: Measure, watch: Watch, adapters=None
) -> Callable[..., None]:
    """How to start `llm.train` on a checkpoint with another loss, for `training.fit`.

    Args:
        adapters: NeMo's PEFT, which then is among the trainer's callbacks; None: all weights are trained.
    """
    from nemo import lightning as nl
    from nemo.collections import llm
    from nemo.lightning import io
    from nemo.lightning.ckpt_utils import ckpt_to_context_subdir

    from nemo_plugins.training import trainer

    def start(*, resume, **parts) -> None:
        model = io.load_context(ckpt_to_context_subdir(str(checkpoint)), subpath="model")
        trainer.recompute(model.config, cfg.platform.recompute)
        pursue(model, measure, watch)
        if resume.restore_config is None:
            resume.restore_config = nl.RestoreConfig(path=str(checkpoint))
        llm.train(model=model, tokenizer=nemo_tokenizer, resume=resume, model_transform=adapters, **parts)

    return start
