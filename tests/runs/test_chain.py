"""The stages of a chain as processes of their own."""

import json

import pytest

from nemo_plugins.runs import chain


def links(stage, *overrides):
    own = ["+model=tiny_pl", "debug=fast", *overrides]
    return [
        ("first", stage.file, [*own, "run.name=chain", "run.stage=first"]),
        ("other/second", stage.file, [*own, "run.name=chain/other", "run.stage=second"]),
    ]


def test_stages_run_in_their_folders_and_finished_ones_are_not_redone(stage, monkeypatch, capfd):
    monkeypatch.chdir(stage.cwd)
    folder = stage.cwd / "runs" / "chain"
    chain.run(folder, links(stage))
    said = capfd.readouterr().out
    assert said.count("rank 0") == 2
    assert "loss_last 0.5000" in said.split("took")[-1]
    written = [(folder / name / "summary.json").stat().st_mtime_ns for name in ("first", "other/second")]
    chain.run(folder, links(stage))
    said = capfd.readouterr().out
    assert said.count("nothing to do") == 2 and "rank 0" not in said
    assert written == [(folder / name / "summary.json").stat().st_mtime_ns for name in ("first", "other/second")]
    assert json.loads((folder / "other" / "second" / "summary.json").read_text())["stage"] == "second"


@pytest.mark.parametrize(("act", "code"), [("crash", 1), ("user", 2), ("stop", 75)])
def test_the_first_stage_that_fails_ends_the_chain_with_its_exit_code(stage, monkeypatch, capfd, act, code):
    monkeypatch.chdir(stage.cwd)
    monkeypatch.setenv("ACT", act)
    with pytest.raises(SystemExit) as end:
        chain.run(stage.cwd / "runs" / "chain", links(stage))
    assert end.value.code == code
    assert not (stage.cwd / "runs" / "chain" / "other").exists()
    assert "first ended with exit code" in capfd.readouterr().err
