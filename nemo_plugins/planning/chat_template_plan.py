"""Which chat template dialogues are written with, and whether their turns can be learnt from it."""

from __future__ import annotations

from pathlib import Path

from nemo_plugins.configs.schema import ChatSource, Recipe
from nemo_plugins.data.chat.text_template import CHATML, END, START, TextTemplate
from nemo_plugins.planning import hf_folder
from nemo_plugins.planning.plan import Plan, Table
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import Unusable, UserError


def add(made: Plan, cfg: Recipe, stage: str) -> TextTemplate | None:
    """Check the template of an alignment stage and add its table to a plan. Returns the template, None where none is here.

    Raises:
        Unusable: there is none, turns cannot be learnt from it, or the embedding has no rows for what is added.
    """
    folder = described_by(cfg, stage)
    if folder is None:
        return None
    template = read(cfg, folder)
    template.check()
    rows = [("chat template", template.where), ("end of a turn", template.end)]
    if cfg.chat.template is ChatSource.chatml:
        rows[0] = ("chat template", "ChatML in the place of the tokenizer's own")
        if added := missing(folder):
            made.warnings.append(_added(cfg, folder, added))
    made.tables.append(Table("Dialogues", rows, numbers=False))
    return template


def read(cfg: Recipe, folder: Path) -> TextTemplate:
    """The template of a folder with a tokenizer, or ChatML where `chat.template` asks for it. Raises Unusable: it has none."""
    if cfg.chat.template is ChatSource.chatml:
        return TextTemplate.of_folder(folder, CHATML, (START, END))
    return TextTemplate.of_folder(folder)


def missing(folder: Path) -> list[str]:
    """Special tokens of ChatML that a folder's tokenizer lacks."""
    has = TextTemplate.of_folder(folder, CHATML).control
    return [name for name in (START, END) if name not in has]


def described_by(cfg: Recipe, stage: str) -> Path | None:
    """The folder with the tokenizer that an alignment stage gets: its student's, else the teacher's; None: neither is here."""
    for checkpoint in (lambda: paths.policy(cfg, stage), lambda: paths.teacher(cfg)):
        try:
            return paths.description(checkpoint())
        except UserError:
            continue
    return paths.local_weights(cfg.model.path) if cfg.model.path else None


def _added(cfg: Recipe, folder: Path, names: list[str]) -> str:
    tokens, rows = hf_folder.vocabulary(folder, "chat.template"), cfg.model.vocab_size
    if tokens + len(names) > rows:
        raise Unusable(
            f"chat.template=chatml: the tokenizer of {folder} lacks {' and '.join(names)}, and its {tokens:,} tokens leave "
            f"{rows - tokens} of the embedding's {rows:,} rows",
            "expected a row for each, or a tokenizer that has them: convert.tokenizer=<folder> (docs/tokenizers.md)",
        )
    return (
        f"chat.template=chatml adds {' and '.join(names)} to the tokenizer, as token {tokens:,} and on; their rows of the "
        "embedding are as the model has them, so train all weights, not adapters"
    )
