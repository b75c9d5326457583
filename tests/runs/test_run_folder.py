"""What a stage leaves, and what happens when it is asked for again."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from nemo_plugins.runs.folder import write

pytestmark = pytest.mark.long  # its tests start processes or draw pictures


def steps(stage) -> list[int]:
    return [json.loads(line)["step"] for line in (stage.folder / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_stage_leaves_config_metrics_and_summary(stage):
    (stage.cwd / "text.txt").write_text("tekst")
    done = stage()
    assert done.returncode == 0, done.stderr
    assert "go on" in done.stdout and "loss_last" in done.stdout
    summary = json.loads((stage.folder / "summary.json").read_text())
    wanted = "stage status started seconds command inputs outputs metrics versions peak_memory_bytes counted"
    assert set(wanted.split()) == set(summary)
    assert (summary["stage"], summary["status"], summary["outputs"]) == (
        "pretrain",
        "done",
        {"checkpoint": "checkpoint"},
    )
    assert summary["versions"]["hydra-core"].startswith("1.3")
    assert summary["peak_memory_bytes"] > 10_000_000
    [path] = summary["inputs"]
    assert path.endswith("text.txt")
    config = yaml.safe_load((stage.folder / "config.yaml").read_text())
    assert config["run"]["name"] == "tiny_pl" and config["pretrain"]["max_steps"] == 4  # nothing left to interpolate
    assert steps(stage) == [1, 2, 3, 4]
    assert {path.name for path in stage.folder.glob(".*")} == {".lock"}  # no temporary file is left
    assert {entry.name for entry in stage.cwd.iterdir()} == {"runs", "text.txt", "count.py"}  # nothing of Hydra's


def test_processes_of_two_nodes_with_one_number_write_no_temporary_file_together(tmp_path, monkeypatch):
    seen, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append(self.name), replace(self, to)))
    for text in ("one", "other"):
        write(tmp_path / "state.json", text)
    assert len(set(seen)) == 2 and (tmp_path / "state.json").read_text() == "other"


def test_asked_for_again_it_does_nothing(stage):
    stage()
    before = (stage.folder / "summary.json").stat().st_mtime_ns
    again = stage("platform.threads=1", "logger.tensorboard=false")  # they change nothing that comes out
    assert again.returncode == 0
    assert "is finished" in again.stdout and "rank" not in again.stdout
    assert (stage.folder / "summary.json").stat().st_mtime_ns == before


def test_a_key_that_another_version_of_the_code_did_not_have_says_nothing_where_it_is_off(stage):
    stage()
    file = stage.folder / "config.yaml"
    config = yaml.safe_load(file.read_text())
    off = [key for key, value in config["pretrain"].items() if not value and not isinstance(value, dict)]
    assert off
    for key in off:
        del config["pretrain"][key]
    file.write_text(yaml.safe_dump({**config, "pretrain": {**config["pretrain"], "gone": []}}))
    assert "is finished" in stage().stdout
    del config["pretrain"]["lr"]
    file.write_text(yaml.safe_dump(config))
    assert "pretrain.lr: None there, 0.001 asked for" in stage().stderr


def test_with_another_configuration_it_is_refused_naming_the_keys(stage):
    stage()
    refused = stage("pretrain.lr=0.5", "run.seed=7")
    assert refused.returncode == 2
    assert "pretrain.lr: 0.001 there, 0.5 asked for" in refused.stderr
    assert "run.seed: 1234 there, 7 asked for" in refused.stderr
    assert "force=true" in refused.stderr and "Traceback" not in refused.stderr


def test_with_a_changed_input_it_is_refused(stage):
    text = stage.cwd / "text.txt"
    text.write_text("tekst")
    stage()
    text.write_text("inny tekst")
    refused = stage()
    assert refused.returncode == 2 and "text.txt has changed" in refused.stderr


def test_with_an_input_that_an_earlier_version_noted_it_says_what_is_not_known(stage):
    (stage.cwd / "text.txt").write_text("tekst")
    stage()
    file = stage.folder / "summary.json"
    summary = json.loads(file.read_text())
    file.write_text(json.dumps(summary | {"inputs": dict.fromkeys(summary["inputs"], "0123456789abcdef")}))
    refused = stage()
    assert refused.returncode == 2 and "was noted by an earlier version, by its files' ends alone" in refused.stderr
    assert "force=true" in refused.stderr and "Traceback" not in refused.stderr


def test_force_moves_the_old_folder_aside(stage):
    stage()
    assert stage("pretrain.lr=0.5", "force=true").returncode == 0
    assert stage("pretrain.lr=0.25", "force=true").returncode == 0
    lrs = {}
    for folder in stage.folder.parent.iterdir():
        lrs[folder.name] = yaml.safe_load((folder / "config.yaml").read_text())["pretrain"]["lr"]
    assert lrs == {"pretrain.old-1": 0.001, "pretrain.old-2": 0.5, "pretrain": 0.25}


def test_a_stopped_stage_ends_with_75_and_goes_on(stage):
    stopped = stage(act="stop")
    assert stopped.returncode == 75
    assert "time is up" in stopped.stderr and "goes on" in stopped.stderr
    assert not (stage.folder / "summary.json").exists()
    used = json.loads((stage.folder / "state.json").read_text())
    again = stage()
    assert again.returncode == 0 and "resuming True from 3" in again.stdout
    assert steps(stage) == [3, 4]
    summary = json.loads((stage.folder / "summary.json").read_text())
    assert summary["started"] == used["started"] and summary["seconds"] > used["seconds"]


def test_an_unfinished_stage_does_not_go_on_with_a_changed_input(stage):
    text = stage.cwd / "text.txt"
    text.write_text("tekst")
    stage(act="stop")
    text.write_text("inny tekst")
    refused = stage()
    assert refused.returncode == 2 and "text.txt has changed" in refused.stderr and "force=true" in refused.stderr
    text.write_text("tekst")
    assert stage().returncode == 0
    text.write_text("i znowu")
    assert stage("force=true").returncode == 0


def test_what_kept_nothing_takes_an_input_that_has_been_mended(stage):
    text = stage.cwd / "text.txt"
    text.write_text("zły tekst")
    assert stage(act="user").returncode == 2
    text.write_text("dobry tekst")
    assert stage().returncode == 0


def test_an_unfinished_stage_does_not_go_on_with_another_configuration(stage):
    stage(act="stop")
    refused = stage("pretrain.lr=0.5")
    assert refused.returncode == 2 and "begun with another configuration" in refused.stderr


@pytest.mark.parametrize("act", ["user", "crash"])
def test_an_attempt_that_failed_does_not_bind_the_next_to_its_configuration(stage, act):
    assert stage(act=act).returncode in (1, 2)
    again = stage("pretrain.lr=0.5")
    assert again.returncode == 0, again.stderr
    configs = {folder.name: yaml.safe_load((folder / "config.yaml").read_text()) for folder in stage.folder.parent.iterdir()}
    lrs = {name: config["pretrain"]["lr"] for name, config in configs.items()}
    assert lrs == {"pretrain.old-1": 0.001, "pretrain": 0.5}


def test_a_failed_attempt_with_logged_steps_is_not_given_up(stage):
    stage(act="stop")
    assert stage(act="crash").returncode == 1
    refused = stage("pretrain.lr=0.5")
    assert refused.returncode == 2 and "begun with another configuration" in refused.stderr


def test_sigterm_ends_with_75_and_says_nothing_was_finished(stage):
    process = subprocess.Popen(stage.command(), cwd=stage.cwd, env=stage.env("wait"), stdout=subprocess.PIPE, text=True)
    while "waiting" not in process.stdout.readline():
        pass
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 75
    assert not (stage.folder / "summary.json").exists()


def test_two_processes_do_not_write_the_same_stage(stage):
    first = subprocess.Popen(stage.command(), cwd=stage.cwd, env=stage.env("wait"), stdout=subprocess.PIPE, text=True)
    try:
        while "waiting" not in first.stdout.readline():
            pass
        second = stage()
    finally:
        first.terminate()
        first.communicate(timeout=20)
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr


def test_a_crash_is_a_traceback_and_1(stage):
    crashed = stage(act="crash")
    assert crashed.returncode == 1
    assert "ValueError: boom" in crashed.stderr
    assert not (stage.folder / "summary.json").exists()


def test_a_stage_that_forgets_to_finish_is_not_done(stage):
    assert stage(act="forget").returncode == 1


def test_a_users_mistake_inside_a_stage_is_one_message(stage):
    refused = stage(act="user")
    assert refused.returncode == 2
    assert refused.stderr == "pretrain: data.train: bad\nexpected good\n"


def test_a_file_of_another_user_inside_a_stage_is_one_message(stage):
    refused = stage(act="denied")
    assert refused.returncode == 2
    assert refused.stderr == (
        "pretrain: another's file cannot be written (Permission denied)\nexpected run.root=<a folder of yours>\n"
    )


def test_a_cut_last_line_of_the_metrics_does_not_stop_a_resume(stage):
    stage(act="stop")
    with (stage.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    again = stage()
    assert again.returncode == 0 and steps(stage) == [3, 4]
