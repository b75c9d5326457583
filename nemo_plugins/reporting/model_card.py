"""The `README.md` of a folder of weights: what it is, the stages that it came from, how good it is, what nobody has checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.evaluation import run_outputs
from nemo_plugins.models import hf_config
from nemo_plugins.reporting import lineage, scores
from nemo_plugins.reporting.lineage import Lineage
from nemo_plugins.reporting.page import PageTable, markdown
from nemo_plugins.runs import paths
from nemo_plugins.runs.stages import by_name, students

DEFAULT = "pl"  # language of a run that names none: conf/recipe.yaml


@dataclass(frozen=True)
class Front:
    """What a hub reads of a card; the defaults are those of a folder that nobody has published.

    Attributes:
        licence: as the hub spells it; `other` is said at the card's end.
        base: hub id of what the model was made from.
        relation: to the base: `finetune`, `quantized`.
        library: what loads it.
    """

    title: str
    licence: str = "other"
    base: str | None = None
    relation: str = "finetune"
    library: str = "transformers"
    tags: tuple[str, ...] = ()

    def lines(self, languages: Sequence[str]) -> list[str]:
        """The block at the card's beginning, in YAML."""
        spoken = [f"language: {languages[0]}"] if len(languages) == 1 else ["language:", *(f"  - {one}" for one in languages)]
        lines = ["---", *spoken, f"library_name: {self.library}", "pipeline_tag: text-generation"]
        if self.base:
            lines += [f"base_model: {self.base}", f"base_model_relation: {self.relation}"]
        lines += [f"license: {self.licence}", *(["license_name: see-below"] if self.licence == "other" else [])]
        return [*lines, *(["tags:", *(f"  - {tag}" for tag in self.tags)] if self.tags else []), "---", ""]


def exported(root: Path) -> Path | None:
    """The Hugging Face folder that a conversion made of the run's last student."""
    for stage in sorted(run_outputs.trained(run_outputs.stages(root)), key=lambda stage: students().index(stage.recipe)):
        if (checkpoint := stage.output("checkpoint")) and (folder := run_outputs.export_of(root, checkpoint)):
            return folder
    return None


def languages(cfg: Recipe) -> list[str]:
    """Codes of the languages that the model speaks: those that its teacher's own card declares, and the run's.

    A run that names no language has Polish, which says nothing of a teacher that declares others.
    """
    folder = paths.local_weights(cfg.model.path) if cfg.model.path else None
    declared = _declared(folder / "README.md") if folder else []
    return list(dict.fromkeys([*declared, *([cfg.language.code] if cfg.language.code != DEFAULT or not declared else [])]))


def _declared(card: Path) -> list[str]:
    """`language` in the YAML block of a card; none where there is no such block."""
    text = card.read_text("utf-8", "replace") if card.is_file() else ""
    try:
        front = yaml.safe_load(text.split("---", 2)[1]) if text.startswith("---") and text.count("---") > 1 else {}
    except yaml.YAMLError:
        front = {}
    languages = front.get("language") or [] if isinstance(front, dict) else []
    return [str(code) for code in ([languages] if isinstance(languages, str) else languages) if isinstance(code, str)]


def ancestry(chain: Lineage, folder: Path) -> Lineage:
    """The stages of a run that a folder came from, its inputs followed back; none of a folder that no stage has made."""
    wanted, ancestors = {folder.resolve()}, {}
    for name, stage in reversed(chain.stages.items()):
        if wanted & {(stage.folder / path).resolve() for path in stage.summary.get("outputs", {}).values()}:
            ancestors[name] = stage
            wanted |= {Path(path).resolve() for path in stage.summary.get("inputs", {})}
    return Lineage(chain.run, dict(reversed(ancestors.items())))


def text(
    cfg: Recipe,
    chain: Lineage,
    evaluations: list[scores.Evaluation],
    folder: Path | None,
    front: Front,
    body: Sequence[str] = (),
) -> str:
    """The card of a folder in Markdown; `folder` None: of the run's models, none of which was exported.

    Args:
        body: further lines, below the shape.
    """
    chain = ancestry(chain, folder) if folder else chain
    recipes = {stage.recipe for stage in chain.stages.values()}
    done = [stage.student for stage in by_name().values() if stage.student and stage.name in recipes]
    front = replace(front, tags=(*front.tags, *(tag for student in done for tag in student.tags)))
    what = ", ".join(student.done for student in done)
    origin = f"A smaller model made of {cfg.model.name}: {what}. " if "prune" in recipes else ""
    lines = [
        *front.lines(languages(cfg)),
        f"# {front.title}",
        "",
        f"{origin}Made with NVIDIA NeMo by the Bielik-Minitron recipes (arXiv 2603.11881)."
        if chain.stages
        else "No stage of a run is on record from which these weights came.",
        "",
        *(line for note in untrained(chain, folder) for line in (f"**{note}**", "")),
        *_shape(folder),
        *body,
        *_scores(evaluations, folder),
        *_lineage(chain),
        "## Limits and licence",
        "",
        "Nobody has examined this model for what it says that is wrong, biased or harmful. It inherits what its teacher "
        f"({cfg.model.name}) learned; the teacher's licence and those of the training texts apply to it: whoever passes it "
        "on has to look at them.",
        "",
    ]
    return "\n".join(lines)


def untrained(chain: Lineage, folder: Path | None = None) -> list[str]:
    """A warning where weights began as random ones in the place of a teacher's."""
    seeds = {stage.summary.get(hf_config.RANDOM) for stage in chain.stages.values()} | {hf_config.random_weights(folder)}
    return [
        f"Made of random weights (seed {seed}), which nobody has trained: only speed and memory mean anything."
        for seed in sorted(seed for seed in seeds if seed is not None)
    ]


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
    chat = "ChatML, in the tokenizer's chat template" if run_outputs.has_chat_template(folder) else "no chat template"
    return ["## Shape", "", *markdown(PageTable(["", ""], [*rows, ["chat", chat]])), ""]


def _scores(evaluations: list[scores.Evaluation], folder: Path | None) -> list[str]:
    """What was measured of this folder, beside its teacher."""
    lines = []
    for evaluation in (_of(one, folder) for one in evaluations):
        if evaluation:
            lines += [f"**{evaluation.suite['name']}**: {evaluation.suite['title']}.", "", scores.verdict(evaluation), ""]
            lines += [*markdown(scores.stage_table(evaluation)), "", *markdown(scores.task_table(evaluation)), ""]
    return ["## Evaluation", "", *(lines or ["Not evaluated.", ""])]


def _of(evaluation: scores.Evaluation, folder: Path | None) -> scores.Evaluation | None:
    """An evaluation as if it were of the teacher and of the models in this folder alone; None where it has none of these."""
    if folder is None:
        return evaluation
    teacher = evaluation.summary["teacher"]
    mine = [
        name
        for name, block in evaluation.models.items()
        if name != teacher and Path(block["path"]).resolve() == folder.resolve()
    ]
    if not mine:
        return None
    models = {name: block for name, block in evaluation.models.items() if name in (teacher, mine[-1])}
    about = {"models": models, "subject": mine[-1], "tasks": models[mine[-1]]["tasks"]}
    return replace(evaluation, summary={**evaluation.summary, **about})


def _lineage(chain: Lineage) -> list[str]:
    if not chain.stages:
        return []
    tables = [*markdown(lineage.stage_table(chain)), "", *markdown(lineage.settings_table(chain)), ""]
    return ["## Lineage", "", *tables, "```bash", *(command for _, command in lineage.commands(chain)), "```", ""]
