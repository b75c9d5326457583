"""The `README.md` of an exported folder: what the model is, where it comes from, how good it is, what nobody has checked."""

from __future__ import annotations

import json
from pathlib import Path

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.evaluation import subjects
from nemo_plugins.evaluation.subjects import ORDER
from nemo_plugins.reporting import lineage, scores
from nemo_plugins.reporting.lineage import Lineage
from nemo_plugins.reporting.page import Cell, Table, cell

DONE = {  # what each recipe has done to the student, in the order of a chain
    "prune": "pruned",
    "distill": "distilled",
    "sft": "fine-tuned on dialogues (SFT)",
    "dpo": "aligned by preference pairs",
    "grpo": "trained on rewards that can be checked (GRPO)",
}


def exported(root: Path) -> Path | None:
    """The Hugging Face folder that a conversion made of the run's last student."""
    trained = [stage for stage in subjects.stages(root) if stage.recipe in ORDER and stage.output("checkpoint")]
    for stage in sorted(trained, key=lambda stage: ORDER.index(stage.recipe), reverse=True):
        if folder := subjects.export_of(root, stage.output("checkpoint")):
            return folder
    return None


def text(cfg: Recipe, chain: Lineage, evaluations: list[scores.Evaluation]) -> str:
    """The card in Markdown."""
    folder = exported(chain.run)
    name = str(cfg.run.name).replace("/", "-")
    done = {stage.recipe for stage in chain.stages.values()}
    steps = ", ".join(words for recipe, words in DONE.items() if recipe in done)
    lines = [
        "---",
        f"language: {cfg.language.code}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        f"base_model: {cfg.model.path or cfg.model.name}",
        "license: other",
        "license_name: see-below",
        "---",
        "",
        f"# {name}",
        "",
        f"A smaller model made of {cfg.model.name}: {steps or 'no stage finished yet'}. "
        "Made with NVIDIA NeMo by the Bielik-Minitron recipes; `report.html` of the run has curves and pictures.",
        "",
        *_shape(folder),
        *_scores(evaluations),
        "## Lineage",
        "",
        *markdown(lineage.stage_table(chain)),
        "",
        *markdown(lineage.settings_table(chain)),
        "",
        "```bash",
        *(command for _, command in lineage.commands(chain)),
        "```",
        "",
        "## Limits and licence",
        "",
        "Nobody has examined this model for what it says that is wrong, biased or harmful. It inherits what its teacher "
        f"({cfg.model.name}) learned; the teacher's licence and those of the training texts apply to it: whoever passes it "
        "on has to look at them.",
        "",
    ]
    return "\n".join(lines)


def markdown(table: Table) -> list[str]:
    """A table in Markdown."""
    rows = [[_escaped(one) for one in row] for row in table.rows]
    return [_line([_escaped(one) for one in table.header]), _line(["---"] * len(table.header)), *map(_line, rows)]


def _shape(folder: Path | None) -> list[str]:
    if folder is None or not (folder / "config.json").is_file():
        return []
    config = json.loads((folder / "config.json").read_text())
    keys = {
        "num_hidden_layers": "layers", "hidden_size": "hidden size", "intermediate_size": "FFN size",
        "num_attention_heads": "attention heads", "num_key_value_heads": "key and value heads", "head_dim": "head size",
        "vocab_size": "vocabulary", "max_position_embeddings": "context", "dtype": "weights",
    }  # fmt: skip
    rows = [[words, config[key]] for key, words in keys.items() if config.get(key) is not None]
    chat = "ChatML, in the tokenizer's chat template" if subjects.has_chat_template(folder) else "no chat template"
    return ["## Shape", "", *markdown(Table(["", ""], [*rows, ["chat", chat]])), ""]


def _scores(evaluations: list[scores.Evaluation]) -> list[str]:
    if not evaluations:
        return ["## Evaluation", "", "Not evaluated.", ""]
    lines = ["## Evaluation", ""]
    for made in evaluations:
        lines += [f"**{made.suite['name']}**: {made.suite['title']}.", "", scores.verdict(made), ""]
        lines += [*markdown(scores.stage_table(made)), "", *markdown(scores.task_table(made)), ""]
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(value: Cell) -> str:
    return " ".join(cell(value).replace("|", "\\|").split())
