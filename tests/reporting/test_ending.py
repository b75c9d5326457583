"""The last lines of a chain: its figures, and commands that can be pasted."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_plugins.configs import REPOSITORY
from nemo_plugins.reporting import ending, headline
from nemo_plugins.runs.prepare import compose


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "with space" / "mine"
    for file in ("aligned-export/hf/config.json", "quantize/gguf/mine-Q4_K_M.gguf", "report/report.html"):
        (folder / file).parent.mkdir(parents=True)
        (folder / file).touch()
    return folder


def cfg(run, *overrides):
    return compose(["+model=tiny_pl", "experiment=laptop", f"run.root='{run.parent}'", "run.name=mine", *overrides])


def test_figures_and_commands_are_said(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(headline, "of", lambda folder: [headline.Figure("size", "32 % smaller", "the student has 13.6 MB")])
    ending.show(cfg(run))
    said = capsys.readouterr().out
    assert "32 % smaller" in said and "the student has 13.6 MB" in said
    assert "http://127.0.0.1:8080" in said and "chat.py" in said and "serve.py" in said and "-m webbrowser file:///" in said


@pytest.mark.parametrize("recipe", ["chat", "serve"])
def test_a_command_is_taken_as_it_is_pasted(run, tmp_path, monkeypatch, recipe):
    monkeypatch.chdir(tmp_path)
    line = ending.typed(cfg(run), recipe)
    done = subprocess.run(["bash", "-c", f"{line} dry_run=true"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "dry run" in done.stdout, done.stderr
    assert shlex.split(line)[0] == sys.executable and str(run.parent) in line


def test_in_the_repository_with_its_environment_it_is_one_word(run, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(ending, "_is_own_environment", lambda: True)
    assert ending.typed(cfg(run), "chat").startswith("./minitron chat +model=tiny_pl experiment=laptop run.name=mine ")


def test_what_the_run_has_not_is_not_offered(tmp_path):
    assert ending.commands(cfg(tmp_path / "none"), Path(tmp_path / "none")) == []
