"""The first result of a chain: said once, with what the models really go on with."""

import json
import shutil

import pytest

from nemo_plugins.configs import REPOSITORY
from nemo_plugins.reporting.first_result import FirstResult
from nemo_plugins.runs.fingerprint import fingerprint
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.progress_line import ProgressLine

pytestmark = pytest.mark.long  # its tests start processes or draw pictures

TINY = REPOSITORY / "assets" / "tiny_pl"


def finish(folder, recipe, **summary):
    folder.mkdir(parents=True, exist_ok=True)
    known = {"command": f"python recipes/{recipe}.py", "started": "2026-01-01", "outputs": {}, "metrics": {}}
    (folder / "summary.json").write_text(json.dumps(known | summary))


@pytest.fixture
def run(tmp_path):
    """Prune and distill are done; the pruned student is exported already, and both students are the teacher."""
    folder = tmp_path / "run"
    checkpoint = folder / "prune" / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_text("of the pruned student")
    losses = {"loss_before": 3.0, "loss_after": 5.0}
    sizes = {"teacher": {"parameters": 10_000_000}, "student": {"parameters": 6_800_000}}
    finish(folder / "prune", "prune", outputs={"checkpoint": "checkpoint"}, metrics=losses, **sizes)
    finish(folder / "distill", "distill", metrics={"teacher_val_loss": 3.0, "val_loss_first": 5.0, "val_loss": 3.5})
    shutil.copytree(TINY, folder / "pruned-export" / "hf")
    inputs = {str(checkpoint): fingerprint(checkpoint)}
    finish(folder / "pruned-export", "convert", outputs={"hf": "hf"}, inputs=inputs)
    return folder


def configured(run):
    return compose(["+model=tiny_pl", f"run.root={run.parent}", f"run.name={run.name}"])


def look(cfg, run, stage=""):
    line = ProgressLine(run, [])
    line.stage = stage
    FirstResult(cfg, [])(line)


def exported(run):
    shutil.copytree(TINY, run / "convert-export" / "hf")
    finish(run / "convert-export", "convert", outputs={"hf": "hf"})


def test_it_is_said_part_by_part_and_once_with_one_sentence_continued_by_each_model(run, capsys):
    cfg = configured(run)
    look(cfg, run)
    said = capsys.readouterr().out
    written = json.loads((run / "first_result.json").read_text())
    assert "32.0 % smaller" in said and "75.0 %" not in said
    assert list(written["continued"]) == ["teacher", "pruned"]
    [text] = set(written["continued"].values())  # one model twice
    assert len(text.split()) > 3 and said.count(text) == 2 and said.count(written["sentence"]) == 2
    exported(run)
    look(cfg, run)
    said = capsys.readouterr().out
    assert "75.0 %" in said and "smaller" not in said
    assert said.count(text) == 1 and json.loads((run / "first_result.json").read_text())["continued"]["distilled"] == text
    look(cfg, run)
    assert capsys.readouterr().out == ""


def test_the_first_validation_of_the_distillation_says_what_is_won_back_so_far(run, capsys):
    cfg, line, log = configured(run), ProgressLine(run, []), run / "distill" / "metrics.jsonl"
    line.stage, result = "distill", FirstResult(cfg, [])
    result(line)
    log.write_text('{"step": 0, "val_loss": 5.0, "teacher_val_loss": 3.0}\n{"step": 1, "loss": 0.4}\n{"step": 20, "val')
    result(line)
    assert capsys.readouterr().out == ""
    (run / "distill" / "samples").mkdir()
    answer = json.dumps([{"prompt": "Stoi na stacji", "answer": "lokomotywa,\nciężka"}])
    (run / "distill" / "samples" / "step=0000020.json").write_text(answer)
    log.write_text('{"step": 0, "val_loss": 5.0, "teacher_val_loss": 3.0}\n{"step": 20, "val_loss": 3.8}\n')
    result(line)
    assert "60.0 %" in (said := capsys.readouterr().out) and "by step 20" in said
    assert "Stoi na stacji […] lokomotywa, ciężka" in said
    result(line)
    assert capsys.readouterr().out == ""


def test_nothing_is_said_before_there_is_a_student(run, capsys):
    shutil.rmtree(run / "prune")
    look(configured(run), run)
    assert capsys.readouterr().out == "" and not (run / "first_result.json").exists()


def test_without_the_teachers_weights_the_others_speak(run):
    exported(run)
    cfg = configured(run)
    cfg.model.path = str(run / "nowhere")
    look(cfg, run)
    assert list(json.loads((run / "first_result.json").read_text())["continued"]) == ["pruned", "distilled"]
