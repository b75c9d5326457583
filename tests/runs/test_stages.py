"""What is declared of a stage holds, and is all that help, chains, reports, the doctor and clusters need to know it."""

import dataclasses
import json
import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from nemo_plugins.configs import REPOSITORY, Recipe
from nemo_plugins.evaluation import run_outputs
from nemo_plugins.planning import chain_plan, doctor_plan
from nemo_plugins.planning.plan import Plan
from nemo_plugins.platforms import locked, machine
from nemo_plugins.reporting import lineage, model_card, scores
from nemo_plugins.runs import chain, command_line, hydra_errors, paths, stages, usage
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import SlurmJob, Stage, Student, by_name
from nemo_plugins.runs.stages.slurm import scripts
from nemo_plugins.runs.stages.stage import NEMO, WHOLE_NODES

HEALED = Stage(
    name="heal",
    plan=f"{__name__}:plan",
    section="pretrain",
    reads=("model", "pretrain"),
    in_chain=True,
    resumable=True,
    student=Student("healed", label="HEAL", done="healed by a stage of this test", tags=("healed",)),
    packages=(*NEMO, "trl"),
    metrics=("healed_by",),
    settings=("max_steps",),
    data="data",
    seconds=7,
    job=SlurmJob("Heals.", "+model=tiny_pl", **WHOLE_NODES),
    keys={"heal.much=true": "heal it well"},
    examples=("+model=tiny_pl heal.much=true",),
)


def plan(cfg: Recipe) -> Plan:
    return Plan(f"heal for {cfg.pretrain.max_steps} steps")


@pytest.fixture
def heal(monkeypatch) -> Stage:
    """The invented stage, between sft and dpo."""
    place = stages.STAGES.index(by_name()["dpo"])
    monkeypatch.setattr(stages, "STAGES", (*stages.STAGES[:place], HEALED, *stages.STAGES[place:]))
    return HEALED


def leave(root: Path, stage: str, started: int, **summary) -> Path:
    folder = root / "mine" / stage
    (folder / "checkpoint").mkdir(parents=True)
    summary |= {"command": f"python recipes/{stage}.py +model=tiny_pl", "started": f"2026-01-01T00:00:{started:02}+00:00"}
    summary |= {"outputs": {"checkpoint": "checkpoint"}, "seconds": 1.0, "inputs": {}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_the_recipes_are_the_stages():
    assert sorted(by_name()) == sorted(file.stem for file in (REPOSITORY / "recipes").glob("*.py"))


@pytest.mark.parametrize("stage", by_name().values(), ids=by_name())
def test_what_a_stage_names_is_there(stage):
    known, lock = set(hydra_errors.keys()), locked.wanted()
    assert resolve_name(stage.plan) and (not stage.folder or resolve_name(stage.folder))
    keys = [f"{stage.of_config}.{key}" for key in (*stage.settings, *filter(None, [stage.data]))]
    assert {*keys, *stage.reads, *filter(None, [stage.of_config])} <= known
    assert set(stage.packages) - {"torch"} <= lock.keys() | set(locked.elsewhere())
    assert stage.uses_nemo or not stage.student
    for words in stage.examples:
        assert "python" not in words


def test_a_new_stage_has_its_help_and_its_place_in_commands(heal):
    assert "heal.much=true\n      heal it well" in usage.text(heal, "Heal a student.")
    assert "python recipes/heal.py +model=tiny_pl heal.much=true" in usage.text(heal, "Heal a student.")
    cfg = compose(["+model=tiny_pl", "run.name=mine", "pretrain.max_steps=3", "prune.num_layers=6", "eval.limit=2"])
    said = command_line.command(cfg, "heal")
    assert all(word in said for word in ("pretrain.max_steps=3", "prune.num_layers=6", "eval.limit=2"))
    assert heal.planned(cfg).title == "heal for 3 steps" and heal.folder_of(cfg) == "heal"


def test_a_new_stage_is_found_by_those_after_it_and_starts_from_those_before(heal, tmp_path):
    cfg = compose(["+model=tiny_pl", "run.name=mine", f"run.root={tmp_path}"])
    left = leave(tmp_path, "sft", 1) / "checkpoint"
    assert paths.policy(cfg, "heal") == left == paths.newest_checkpoint(cfg)
    healed = leave(tmp_path, "heal", 2) / "checkpoint"
    assert paths.policy(cfg, "dpo") == healed == paths.newest_checkpoint(cfg)


def test_what_is_missing_is_not_a_stage_that_few_chains_have(tmp_path):
    cfg = compose(["+model=tiny_pl", "run.name=mine", f"run.root={tmp_path}"])
    with pytest.raises(UserError, match="finished sft"):
        paths.policy(cfg, "dpo")
    left = leave(tmp_path, "opd", 1) / "checkpoint"
    assert paths.policy(cfg, "dpo") == left, "where it is there, it comes after sft"


def test_a_chain_takes_a_new_stage_and_shows_what_it_came_to(heal, tmp_path, capsys):
    cfg = compose(["+model=tiny_pl", "experiment=laptop", "run.name=mine", f"run.root={tmp_path}"])
    link = dataclasses.replace(cfg.experiment.stages[0], name="heal", recipe="heal", overrides=[], what="the invented one")
    cfg.experiment.stages = [link]
    assert [one.recipe for one in chain_plan.links(cfg, ["+model=tiny_pl"])] == ["heal"]
    assert chain.starts_warm(["python", "recipes/heal.py"])
    leave(tmp_path, "heal", 1, metrics={"healed_by": 0.25, "other": 1.0})
    chain.table(tmp_path / "mine", {"heal": "heal"})
    said = capsys.readouterr().out
    assert "healed_by 0.2500" in said and "other" not in said


def test_reports_and_the_doctor_know_a_new_stage(heal, tmp_path):
    cfg = compose(["+model=tiny_pl", "run.name=mine", f"run.root={tmp_path}"])
    leave(tmp_path, "prune", 1)
    folder = leave(tmp_path, "heal", 2)
    (folder / "config.yaml").write_text("pretrain: {max_steps: 3, data: [text.jsonl]}")
    found = lineage.read(tmp_path / "mine")
    assert run_outputs.derived(cfg)["healed"] == str(folder / "checkpoint") and scores.name("healed") == "HEAL"
    assert ["heal", "max_steps 3", "text.jsonl"] in lineage.settings_table(found).rows
    card = model_card.text(cfg, found, [], None, model_card.Front("mine"))
    assert "pruned, healed by a stage of this test" in card and "  - healed\n" in card
    facts = machine.facts() | {"absent": ["trl"], "torch": "2.13"}
    rows = {name: (here, note) for name, here, _, note in doctor_plan.judge(cfg, facts).stages}
    assert rows["heal"] == ("no", "not installed: trl")


def test_a_new_stage_has_a_job(heal):
    assert "#SBATCH --job-name=heal\n" in scripts()["heal.sh"] and "#SBATCH --nodes=2\n" in scripts()["heal.sh"]


def test_the_readme_and_the_guide_to_slurm_have_every_stage():
    table = (REPOSITORY / "README.md").read_text().split("| stage | what it does | command of its own |\n")[1].split("\n\n")[0]
    rows = [line.split("|")[1:4] for line in table.splitlines()[1:]]
    chained = {stage.name: stage.recipe for stage in compose(["+model=tiny_pl", "experiment=laptop"]).experiment.stages}
    shown = [re.findall(r"`([\w-]+)`", names) for names, _, _ in rows]
    assert [name for names in shown for name in names] == list(chained)
    for names, (*_, command) in zip(shown, rows, strict=True):
        assert not command.strip() or f"recipes/{chained[names[-1]]}.py" in command
    table = (REPOSITORY / "docs" / "slurm.md").read_text().split("| script | asks for | |\n")[1].split("\n\n")[0]
    scripted = {name for line in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert scripted == {name for name, stage in by_name().items() if stage.job} | {"minitron"}
