"""Where a stage finds what an earlier one left."""

import shutil

import pytest

from nemo_plugins import runs
from nemo_plugins.configs import REPOSITORY
from nemo_plugins.planning import convert_plan, distill_plan, inputs
from nemo_plugins.runs.prepare import compose


def leave(root, *parts, checkpoint=True, done=True):
    folder = root.joinpath(*parts)
    (folder / "checkpoint").mkdir(parents=True) if checkpoint else folder.mkdir(parents=True)
    if done:
        (folder / "summary.json").write_text("{}")
    return folder / "checkpoint"


def config(root, name="mine", *overrides):
    return compose(["+model=tiny_pl", f"run.root={root}", f"run.name={name}", *overrides])


def test_a_candidate_looks_at_home_first_and_then_in_its_parent(tmp_path):
    shared = leave(tmp_path, "mine", "convert-import")
    parents = leave(tmp_path, "mine", "prune")
    assert runs.earlier(config(tmp_path, "mine/random"), "prune") == parents
    own = leave(tmp_path, "mine", "random", "prune")
    cfg = config(tmp_path, "mine/random")
    assert runs.student(cfg) == own
    assert runs.teacher(cfg) == shared


def test_what_is_missing_or_unfinished_names_the_command(tmp_path):
    leave(tmp_path, "mine", "convert-import", done=False)
    with pytest.raises(runs.UserError) as error:
        runs.teacher(config(tmp_path))
    assert f"python recipes/convert.py +model=tiny_pl run.name=mine run.root={tmp_path} convert.to=nemo" in str(error.value)


def test_the_command_of_a_stage_of_one_process_takes_back_the_experiments_others():
    one = "platform.devices=1 platform.nodes=1 platform.tensor_parallel=1"
    for experiment in ("minitron_7b", "minitron_7b_pl", "exp_001"):
        cfg = compose(["+model=bielik11b", f"experiment={experiment}"])
        assert runs.command(cfg, "prune") == f"python recipes/prune.py +model=bielik11b experiment={experiment} {one}"
        assert one not in runs.command(cfg, "distill")
    # not what this stage itself was started with, which the command does not repeat
    cfg = compose(["+model=bielik11b", "experiment=minitron_7b", *one.split()])
    assert runs.command(cfg, "prune").endswith(one)
    assert "platform" not in runs.command(compose(["+model=bielik11b", "platform.devices=8"]), "prune")


def test_a_given_path_comes_before_the_run(tmp_path):
    leave(tmp_path, "mine", "prune")
    for part in ("context", "weights"):
        (tmp_path / "other" / "checkpoint" / part).mkdir(parents=True)
    given = tmp_path / "other" / "checkpoint"
    for path in (given, given.parent):  # a stage's folder stands for its checkpoint
        assert runs.student(config(tmp_path, "mine", f"student.path={path}")) == given
    with pytest.raises(runs.UserError, match="student.path"):
        runs.student(config(tmp_path, "mine", "student.path=nowhere"))


@pytest.mark.parametrize("key", ["teacher.path", "student.path", "convert.source"])
def test_a_folder_that_is_no_checkpoint_is_refused_by_a_dry_run_too(tmp_path, key):
    (tmp_path / "other").mkdir()
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    plan = convert_plan.plan if key == "convert.source" else distill_plan.plan
    for name, what in (("other", "neither a NeMo checkpoint"), ("hf", "a Hugging Face folder")):
        with pytest.raises(runs.UserError, match=f"^{key}: .*{name} is {what}"):
            plan(config(tmp_path, "mine", f"{key}={tmp_path / name}", "convert.to=hf", "dry_run=true"))


def test_a_stage_stands_for_its_hugging_face_folder_and_a_checkpoint_is_none(tmp_path):
    stage = tmp_path / "convert-export"
    shutil.copytree(REPOSITORY / "assets" / "tiny_pl", stage / "hf")
    assert runs.local_weights(str(stage)) == stage / "hf"
    assert inputs.model_source(config(tmp_path, "mine", f"convert.source={stage}")) == stage / "hf"
    for part in ("context", "weights"):
        (tmp_path / "checkpoint" / part).mkdir(parents=True)
    with pytest.raises(runs.UserError, match="convert.source: .* is a NeMo checkpoint"):
        convert_plan.plan(config(tmp_path, "mine", f"convert.source={tmp_path / 'checkpoint'}", "dry_run=true"))


def test_the_newest_checkpoint_is_the_latest_stage_of_the_chain(tmp_path):
    leave(tmp_path, "mine", "convert-import")
    pruned = leave(tmp_path, "mine", "prune")
    assert runs.newest_checkpoint(config(tmp_path)) == pruned
    distilled = leave(tmp_path, "mine", "distill")
    assert runs.newest_checkpoint(config(tmp_path)) == distilled
    with pytest.raises(runs.UserError, match="convert.source"):
        runs.newest_checkpoint(config(tmp_path, "empty"))


def test_assets_are_the_repositorys_and_the_rest_the_current_directorys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs.resolve("assets/tiny_pl") == REPOSITORY / "assets" / "tiny_pl"
    assert runs.resolve("text.txt").absolute() == tmp_path / "text.txt"


def test_a_hub_model_is_found_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    cache = tmp_path / "hub" / "models--org--name"
    (cache / "snapshots" / "abc").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    assert runs.local_weights("org/name") == cache / "snapshots" / "abc"
    assert runs.local_weights("org/other") is None


@pytest.mark.parametrize("name", ["../up", "/tmp/x", "a//b", "a/../b"])
def test_a_run_stays_below_its_root(tmp_path, name):
    with pytest.raises(runs.UserError, match="run.name"):
        config(tmp_path, f"'{name}'")
