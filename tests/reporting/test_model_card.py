"""A model card tells of one folder: the stages that it came from and its own scores, not those of the rest of its run."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from nemo_plugins.reporting import lineage, model_card, scores
from nemo_plugins.reporting.model_card import Front
from nemo_plugins.runs.prepare import compose

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "tiny_pl"
STAGES = {  # stage: its recipe, what it read, what it left
    "convert-import": ("convert", [], "checkpoint"),
    "prune": ("prune", ["convert-import/checkpoint"], "checkpoint"),
    "distill": ("distill", ["convert-import/checkpoint", "prune/checkpoint"], "checkpoint"),
    "convert-export": ("convert", ["distill/checkpoint"], "hf"),
    "sft": ("sft", ["distill/checkpoint"], "checkpoint"),
    "aligned-export": ("convert", ["sft/checkpoint"], "hf"),
    "random/prune": ("prune", ["convert-import/checkpoint"], "checkpoint"),
}
AVERAGES = {"teacher": ("teacher", 0.5), "distilled": ("convert-export/hf", 0.375), "sft": ("aligned-export/hf", 0.4375)}


@pytest.fixture
def run(tmp_path) -> Path:
    for second, (name, (recipe, read, left)) in enumerate(STAGES.items()):
        (tmp_path / name / left).mkdir(parents=True)
        summary = {
            "started": f"2026-01-01T00:00:{second:02}+00:00",
            "command": f"python recipes/{recipe}.py run.stage={name}",
            "inputs": dict.fromkeys((str(tmp_path / path) for path in read), ""),
            "outputs": {left: left},
        }
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    models = {}
    for name, (path, average) in AVERAGES.items():
        models[name] = {"path": str(tmp_path / path), "average": average, "tasks": {}}
        if name != "teacher":
            models[name]["against_teacher"] = {"recovery": average / 0.5, "recovery_interval": [0.5, 1.0], "p": 0.5}
    suite = {"name": "mine", "title": "of mine", "confidence": 0.95}
    evaluation = {"suite": suite, "subject": "sft", "teacher": "teacher", "tasks": {}, "models": models}
    made = {"started": "2026-01-01T00:01:00+00:00", "command": "python recipes/eval.py", **evaluation}
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "summary.json").write_text(json.dumps(made))
    return tmp_path


def card(run: Path, folder: Path, **front) -> str:
    return model_card.text(compose(["+model=tiny_pl"]), lineage.read(run), scores.read(run), folder, Front("mine", **front))


def test_an_ancestry_is_what_the_folder_was_made_of(run):
    chain = lineage.read(run)
    assert list(model_card.ancestry(chain, run / "aligned-export" / "hf").stages) == [
        "convert-import", "prune", "distill", "sft", "aligned-export",
    ]  # fmt: skip
    assert list(model_card.ancestry(chain, run / "random" / "prune" / "checkpoint").stages) == [
        "convert-import",
        "random/prune",
    ]
    assert not model_card.ancestry(chain, run / "elsewhere").stages


def test_a_distilled_folder_is_said_to_be_no_more_than_that(run):
    made = card(run, run / "convert-export" / "hf")
    assert "made of tiny_pl: pruned, distilled. " in made and "recipes/sft.py" not in made
    assert "distilled has an average of 37.50, its teacher 50.00: a recovery of 75.00 %" in made and "43.75" not in made
    assert "  - minitron\n  - pruned\n  - distilled\n" in made and "base_model" not in made


def test_a_folder_that_no_stage_made_has_no_lineage_scores_or_tags(run):
    made = card(run, run / "elsewhere", licence="mit", base="me/teacher")
    assert "Not evaluated." in made and "## Lineage" not in made and "pruned" not in made
    assert "license: mit\n" in made and "base_model: me/teacher\nbase_model_relation: finetune\n" in made


@pytest.mark.parametrize(
    ("declared", "overrides", "spoken"),
    [
        ("language: en", [], "en"),
        ("language:\n  - en\n  - de", [], ["en", "de"]),
        ("language: en", ["language=cs"], ["en", "cs"]),
        ("license: mit", [], "pl"),
        ("license: mit", ["language=hu"], "hu"),
        ("language: [", [], "pl"),
    ],
)
def test_a_card_names_the_languages_of_the_teacher_and_of_the_run(run, tmp_path, declared, overrides, spoken):
    teacher = tmp_path / "a teacher"
    shutil.copytree(BUNDLED, teacher)
    (teacher / "README.md").write_text(f"---\n{declared}\n---\n\n# A teacher\n")
    cfg = compose(["+model=from_hf", f"model.path='{teacher}'", *overrides])
    made = model_card.text(cfg, lineage.read(run), scores.read(run), None, Front("mine"))
    assert yaml.safe_load(made.split("---")[1])["language"] == spoken
