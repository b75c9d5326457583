"""Commands that are printed: pasted into a shell they compose to what they say, and they keep what the one before was given."""

import errno
import shlex
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nemo_plugins import runs
from nemo_plugins.planning import chain_plan
from nemo_plugins.pruning import shortlist
from nemo_plugins.reporting import lineage
from nemo_plugins.reporting.search_report import Row
from nemo_plugins.runs import hydra_errors, multirun, output, prepare, stages
from nemo_plugins.runs.command_line import line, override
from nemo_plugins.runs.prepare import compose

ANY = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
TRICKY = st.text("ab1 '\"=$,{}[]()\\~#:;&|!*?@%+-./żó\t\n", max_size=12)
NAMES = st.from_regex(r"[A-Za-z0-9_,=+-]{1,12}(/[A-Za-z0-9_,=+-]{1,12})?", fullmatch=True)


def pasted(command: str) -> list[str]:
    """The words that bash makes of a line."""
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True).stdout
    return words.decode().split("\0")[:-1]


def composed(command: str):
    python, recipe, *words = pasted(command)
    assert python == "python" and recipe.startswith("recipes/")
    return compose(words)


@settings(max_examples=20)
@given(path=ANY | TRICKY, other=TRICKY, name=NAMES)
@example(path='my text/Ala\'s "kot".txt', other="a=b,c", name="tiny_pl/num_layers=6")
@example(path="${run.root}/x", other="a${b\\", name="seed=1,lr=2e-4")
@example(path="null", other="1e3", name="007")
@example(path="[a,b]", other="{a: b}", name="true")
def test_what_a_command_says_survives_the_shell_and_hydra(path, other, name):
    cfg = composed(line("distill", ["+model=tiny_pl", override("data.train", [path, other]), override("student.path", path),
                                    override("run.name", name), override("run.root", other)]))  # fmt: skip
    assert (cfg.data.train, cfg.student.path, cfg.run.name, cfg.run.root) == ([path, other], path, name, other)


@settings(max_examples=10)
@given(path=TRICKY.filter(bool), name=NAMES)
def test_the_next_command_of_a_command_is_of_the_same_run_and_data(path, name):
    words = [override("data.train", [path]), override("run.root", path), override("run.name", name), "distill.seq_length=64"]
    cfg = compose(["+model=tiny_pl", "prune.num_layers=6", *words])
    following = composed(runs.command(cfg, "distill", override("data.heldout", [path])))
    assert (following.data.train, following.data.heldout) == ([path], [path])
    assert (following.run.name, following.run.root, following.distill.seq_length) == (name, path, 64)
    assert following.prune.num_layers == 6


@pytest.mark.parametrize("value", [None, True, 7, 1.5e-4, "true", ["a b", "c"], {"en": "a b", "n": 1}])
def test_a_value_keeps_its_type(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(override("key", value)).value() == value


def test_the_name_of_a_swept_run_is_typed_again_in_what_follows():
    first, *_ = multirun.jobs(["+model=tiny_pl", "--multirun", "prune.num_layers=6,7", "data.train=['a b.txt']"])
    following = composed(runs.command(compose(first), "distill"))
    assert following.run.name == "tiny_pl/num_layers=6" and following.data.train == ["a b.txt"]


def test_a_chain_of_a_run_whose_name_hydra_would_read_otherwise_hands_it_on():
    given = ["+model=tiny_pl", "experiment=laptop", "run.name='a=1,b'", override("run.root", "here, it's")]
    cfg = compose(given)
    for link in chain_plan.links(cfg, given):
        stage = composed(link.command)
        assert stage.run.name.startswith("a=1,b") and stage.run.root == "here, it's"


def test_the_commands_of_a_candidate_and_of_the_report_can_be_pasted(monkeypatch):
    given = ["+model=tiny_pl", override("run.name", "a=1/b"), override("data.train", ["x y.txt"])]
    monkeypatch.setattr("sys.argv", ["recipes/search.py", *given])
    row = Row("l6", {"num_layers": 6}, 1, 1, 1.0, None, None)
    for command in shortlist.commands(compose(given), row):
        cfg = composed(command)
        assert (cfg.run.name, cfg.data.train, cfg.prune.num_layers) == ("a=1/b/l6", ["x y.txt"], 6)
    noted = shlex.join(["python", "/some where/recipes/prune.py", *given])
    assert composed(lineage._command(noted)).data.train == ["x y.txt"]


def kept(given, recipe, *more):
    cfg = compose(["+model=tiny_pl", *given])
    return shlex.split(runs.command(cfg, recipe, *more))[3:]


def test_the_next_command_keeps_what_it_still_reads_and_drops_what_was_for_this_one():
    data = ["data.train=[a.txt]", "data.heldout=[b.txt]"]
    sizes = ["prune.num_layers=6", "distill.seq_length=64"]
    assert kept([*data, *sizes, "dry_run=false", "force=true", "convert.dtype=float32"], "prune") == [*data, *sizes]
    assert kept([*data, *sizes, "plan.gpu=h200"], "distill") == [*data, *sizes]
    assert kept([*data, "distill.max_steps=9", "student.path=x", "sft.lr=1e-4"], "sft") == [*data, "sft.lr=1e-4"]
    assert kept(["distill.max_steps=9", "platform.devices=2", "convert.dtype=float32"], "convert", "convert.to=hf") == [
        "convert.dtype=float32", "convert.to=hf",
    ]  # fmt: skip
    assert kept(["model.path=my_weights", "platform.precision=fp32", "run.seed=7"], "prune") == [
        "model.path=my_weights", "platform.precision=fp32", "run.seed=7",
    ]  # fmt: skip


def test_the_next_training_is_split_as_the_experiments_chain_splits_it():
    def split(recipe, *given):
        words = shlex.split(runs.command(compose(["+model=bielik11b", "experiment=minitron_7b", *given]), recipe))
        return [word for word in words if word.startswith("platform.tensor_parallel=")]

    assert split("distill") == ["platform.tensor_parallel=2"] and split("dpo") == []
    assert split("distill", "platform.tensor_parallel=8") == ["platform.tensor_parallel=8"]
    assert split("convert") == ["platform.tensor_parallel=1"]


def test_a_teacher_of_a_folder_stays_that_folder_whatever_its_name(tmp_path):
    folder = tmp_path / "tiny_pl"
    folder.symlink_to(runs.resolve("assets/tiny_pl"))
    cfg = compose(["+model=from_hf", override("model.path", str(folder))])
    assert composed(runs.command(cfg, "prune")).model.path == str(folder)


def test_a_stage_in_a_folder_of_its_own_is_named_to_the_next(tmp_path):
    own = runs.left_by("student.path", tmp_path / "my prune" / "checkpoint", ("prune",))
    cfg = compose(["+model=tiny_pl", "run.stage=p2"])
    assert composed(runs.command(cfg, "distill", *own)).student.path == str(tmp_path / "my prune" / "checkpoint")
    assert runs.left_by("student.path", tmp_path / "prune" / "checkpoint", ("prune",)) == []


@pytest.mark.parametrize("width", ["80", "400"])
def test_no_border_cuts_a_next_command(tmp_path, monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", width)
    command = line("distill", ["+model=tiny_pl", override("data.train", ["a b" * 60])])
    output.finished(tmp_path, {"stage": "prune", "seconds": 1, "outputs": {}, "metrics": {}}, [command])
    assert command in capsys.readouterr().out


def test_every_section_of_the_configuration_has_its_place_among_the_stages():
    """A section that no stage declares would be handed on to every stage."""
    shared = {"run", "dry_run", "force", "model", "teacher", "student", "platform", "data", "language", "logger", "experiment"}
    assert {key for key in hydra_errors.keys() if "." not in key} - shared == set(stages.sections())


def test_what_was_expected_is_not_composed_again(monkeypatch):
    words = ["+model=tiny_pl", "experiment=laptop"]
    fresh = prepare.compose([*words, "run.name=mine"])
    prepare.expect([*words, "run.name=another", "distill.max_steps=3"])
    monkeypatch.setattr("hydra.compose", None)
    again = prepare.compose([*words, "run.name=mine"])
    assert again == fresh and again.run.name == "mine"


def test_a_place_that_cannot_be_written_is_a_mistake(monkeypatch, capsys):
    def job(arguments):
        raise PermissionError(errno.EACCES, "Permission denied", "runs/tiny_pl")

    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["prune.py", "+model=tiny_pl"])
    module = sys.modules["nemo_plugins.runs.recipe"]  # the package's own name of it is the decorator
    monkeypatch.setattr(module, "_compose_and_run", job)
    assert module._command(None, stages.by_name()["prune"], "") == 2
    said = capsys.readouterr().err
    assert "runs/tiny_pl cannot be written (Permission denied)" in said and "run.root=" in said
