"""The first result of a chain: said once, with what the models really go on with."""

import json
import shutil

import pytest

from nemo_plugins.configs import REPOSITORY
from nemo_plugins.reporting import first_result
from nemo_plugins.runs.fingerprint import fingerprint
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.progress_line import ProgressLine

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


def test_nothing_is_said_before_the_distilled_student_is_exported(run, capsys):
    first_result.show(configured(run), [], ProgressLine(run, []))
    assert capsys.readouterr().out == "" and not (run / "first_result.json").exists()


def test_it_is_said_once_with_one_sentence_continued_by_each_model(run, capsys):
    shutil.copytree(TINY, run / "convert-export" / "hf")
    finish(run / "convert-export", "convert", outputs={"hf": "hf"})
    cfg, line = configured(run), ProgressLine(run, [])
    first_result.show(cfg, [], line)
    said = capsys.readouterr().out
    assert "32.0 % smaller" in said and "75.0 %" in said
    written = json.loads((run / "first_result.json").read_text())
    assert list(written["continued"]) == ["teacher", "pruned", "distilled"]
    [text] = set(written["continued"].values())  # one model three times
    assert len(text.split()) > 3 and said.count(text) == 3 and said.count(written["sentence"]) == 3
    first_result.show(cfg, [], line)
    assert capsys.readouterr().out == ""


def test_without_the_teachers_weights_the_others_speak(run, capsys):
    shutil.copytree(TINY, run / "convert-export" / "hf")
    finish(run / "convert-export", "convert", outputs={"hf": "hf"})
    cfg = configured(run)
    cfg.model.path = str(run / "nowhere")
    first_result.show(cfg, [], ProgressLine(run, []))
    assert list(json.loads((run / "first_result.json").read_text())["continued"]) == ["pruned", "distilled"]
