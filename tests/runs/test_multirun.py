"""`--multirun`: one process and one run folder for each combination."""

import pytest

from nemo_plugins.runs import multirun

pytestmark = pytest.mark.long  # its tests start processes or draw pictures


def test_each_job_has_a_run_of_its_own():
    made = multirun.jobs(["+model=tiny_pl", "--multirun", "prune.num_layers=6,7", "prune.ffn_hidden_size=512,768"])
    assert [job[-1] for job in made] == [
        "run.name='tiny_pl/num_layers=6,ffn_hidden_size=512'",
        "run.name='tiny_pl/num_layers=6,ffn_hidden_size=768'",
        "run.name='tiny_pl/num_layers=7,ffn_hidden_size=512'",
        "run.name='tiny_pl/num_layers=7,ffn_hidden_size=768'",
    ]


def test_a_swept_experiment_or_a_given_name_is_the_name():
    made = multirun.jobs(["-m", "+model=bielik11b", "experiment=exp_001,exp_002"])
    assert made == [["+model=bielik11b", "experiment=exp_001"], ["+model=bielik11b", "experiment=exp_002"]]
    made = multirun.jobs(["-m", "+model=tiny_pl", "run.name=mine", "run.seed=1,2"])
    assert [job[-1] for job in made] == ["run.name='mine/seed=1'", "run.name='mine/seed=2'"]


def test_one_failing_job_does_not_end_the_others(stage):
    swept = stage("--multirun", "pretrain.log_every=1,abc,2")
    assert swept.returncode == 2
    assert "2 of 3 jobs done" in swept.stdout
    assert "pretrain.log_every" in swept.stderr and "Traceback" not in swept.stderr
    root = stage.cwd / "runs" / "tiny_pl"
    assert sorted(folder.name for folder in root.iterdir()) == ["log_every=1", "log_every=2"]
    assert all((folder / "pretrain" / "summary.json").is_file() for folder in root.iterdir())
    assert not (stage.cwd / "multirun.yaml").exists()


def test_the_worst_exit_code_is_the_sweeps(stage):
    assert stage("--multirun", "run.seed=1,2", act="crash").returncode == 1
    assert stage("--multirun", "run.seed=3,4", act="stop").returncode == 75
