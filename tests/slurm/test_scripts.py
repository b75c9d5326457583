"""The scripts of slurm/ without a cluster: headers, snapshots, and what the pre-flight makes of nodes' facts."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from nemo_plugins.platforms.nodes import sick
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name
from nemo_plugins.runs.stages.slurm import scripts

REPOSITORY = Path(__file__).resolve().parents[2]
SLURM = REPOSITORY / "slurm"
STAGES = sorted(path for path in SLURM.glob("*.sh") if "\nlaunch=" in path.read_text())


def test_the_scripts_are_those_that_the_stages_declare():
    """`python -m nemo_plugins.runs.stages.slurm` writes them."""
    assert {path.name: path.read_text() for path in STAGES} == scripts()
    assert all(stage.job for stage in by_name().values() if stage.in_chain)  # slurm/minitron.sh submits each stage of a chain


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_headers(path):
    """What every job needs to be stopped in time and to go on, and nothing of a site."""
    text = path.read_text()
    for option in ("--signal=B:USR1@", "--requeue", "--open-mode=append", "--time=", "--output="):
        assert f"#SBATCH {option}" in text
    assert "--account" not in text and "--partition" not in text
    # all memory of a node only where the whole node is taken
    assert ("#SBATCH --mem=0\n" in text) == ("#SBATCH --exclusive\n" in text) and "#SBATCH --mem=" in text


def test_the_example_of_a_header_fits_the_job_that_it_asks_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in STAGES:
        text = path.read_text()
        words = shlex.split(re.search(r"^#   sbatch slurm/\w+\.sh (.*)$", text, re.M)[1])
        nodes, tasks = (re.search(rf"^#SBATCH --{option}=(\d+)", text, re.M)[1] for option in ("nodes", "ntasks-per-node"))
        script = re.search(r"^defaults=.*$", text, re.M)[0] + '; printf "%s\\n" "${defaults[@]}"'
        env = {"SLURM_JOB_NUM_NODES": nodes, "SLURM_NTASKS_PER_NODE": tasks}
        defaults = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, env=env).stdout.split()
        cfg = compose([*words, *defaults])
        if by_name()[path.stem].in_chain and path.stem != "eval":  # whose tasks are in the image
            by_name()[path.stem].planned(cfg)


def test_under_pyxis_the_check_of_the_overrides_asks_for_the_sites_account(tmp_path):
    """srun reads no SBATCH_ACCOUNT: on a login node it is told, and within a job it is a step of that job."""
    (tmp_path / "bin").mkdir()
    for name, body in (("srun", 'echo "srun $*"; echo --container-image'), ("sbatch", ":")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "MINITRON_JOBS": str(tmp_path), "MINITRON_RUNTIME": "pyxis"}
    env |= {"MINITRON_IMAGE": "image.sqsh", "SBATCH_ACCOUNT": "ours", "SBATCH_PARTITION": "gpu"}
    command = ["bash", str(SLURM / "submit.sh"), "slurm/distill.sh", "+model=tiny_pl"]
    login, step = ({**env, **job} for job in ({}, {"SLURM_JOB_ID": "7"}))
    said = [subprocess.run(command, capture_output=True, text=True, env=each).stdout for each in (login, step)]
    assert "--time=10 --account=ours --partition=gpu /opt/venv/bin/python" in said[0] and "--qos" not in said[0]
    assert "recipes/distill.py +model=tiny_pl" in said[1] and "--account" not in said[1]


SPELLINGS = ("platform.devices=4", "+platform.devices=4", "++platform.devices=4", "~platform.devices")


@pytest.mark.parametrize("override", SPELLINGS)
def test_the_layout_that_is_checked_is_the_one_that_runs(tmp_path, override):
    """A stage's default gives way to the user's override however it is written: at submission, in the job and to the doctor."""
    (tmp_path / "bin").mkdir()
    for name in ("python", "sbatch"):
        (tmp_path / "bin" / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "MINITRON_JOBS": str(tmp_path), "MINITRON_PYTHON": f"{tmp_path}/bin/python"}
    given = ["+model=tiny_pl", override]
    command = ["bash", str(SLURM / "submit.sh"), "slurm/distill.sh", *given]
    checked = subprocess.run(command, capture_output=True, text=True, env=env).stdout.splitlines()
    assert [word for word in checked[: checked.index("dry_run=true")] if "platform.devices" in word] == [override]
    script = """
        source "$1/environment.sh"
        source <(sed -n '/^check()/,/^}/p' "$1/job.sh")
        defaults=(platform.nodes=1 platform.devices=8 platform.kind=cpu)
        words=("${@:2}")
        complete
        run=(printf '%s\\n') once=() python=() attempt=1 nodes=1 per_node=1 here=. notes=. name=job SLURM_GPUS_ON_NODE=0
        check
        printf 'runs: %s\\n' "${words[*]}"
    """
    done = subprocess.run(["bash", "-uc", script, "-", str(SLURM), *given, "++run.root=there", "+platform.kind=gpu"],
                          capture_output=True, text=True)  # fmt: skip
    assert done.stderr == ""
    assert f"runs: {' '.join(given)} ++run.root=there +platform.kind=gpu platform.nodes=1" in done.stdout
    assert "++run.root=there\n+platform.kind=gpu\n" in done.stdout.split("doctor.py")[1]


def test_srun_hands_on_what_the_launcher_sets():
    """In a job that was submitted with --export=NONE Slurm says SLURM_EXPORT_ENV=NONE, which srun follows."""
    command = ["bash", "-c", f"source {SLURM}/environment.sh; printenv SLURM_EXPORT_ENV"]
    assert subprocess.run(command, capture_output=True, text=True, env={"SLURM_EXPORT_ENV": "NONE"}).stdout == "ALL\n"


@pytest.mark.parametrize(
    ("said", "is_so"),
    [
        ("COMPLETING None", True),
        ("CANCELLED None", True),
        ("RUNNING None", False),
        ("COMPLETING TimeLimit", False),
        ("", False),
    ],
)
def test_a_cancelled_job_is_told_from_a_preempted_one_and_from_one_whose_time_is_over(said, is_so):
    script = """
        source <(sed -n '/^cancelled()/,/^}/p' "$1/job.sh")
        me=7
        squeue() { echo "$said"; }
        cancelled
    """
    done = subprocess.run(["bash", "-uc", f"said='{said}'{script}", "-", str(SLURM)], capture_output=True, text=True)
    assert (done.returncode == 0) == is_so and done.stderr == ""


def test_a_snapshot_is_whole_or_not_there(tmp_path):
    to = tmp_path / "job" / "code"
    command = ["bash", str(SLURM / "snapshot.sh"), str(REPOSITORY), str(to)]
    assert subprocess.run(command).returncode == 0
    assert (to / "recipes" / "distill.py").is_file() and (to / "conf" / "recipe.yaml").is_file()
    assert (to / "assets").resolve() == REPOSITORY / "assets" and not (to / "slurm" / "site.env").exists()
    kept = (to / "pyproject.toml").stat().st_mtime_ns
    assert subprocess.run(command).returncode == 0 and (to / "pyproject.toml").stat().st_mtime_ns == kept  # once, for good
    broken = tmp_path / "broken"
    assert subprocess.run([*command[:2], str(tmp_path / "no repository"), str(broken)], capture_output=True).returncode
    assert not list(tmp_path.glob("broken*"))


def test_without_a_launcher_it_says_where_to_submit_from(tmp_path):
    env = {"SLURM_SUBMIT_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS_PER_NODE": "1"}
    done = subprocess.run(["bash", str(SLURM / "distill.sh")], capture_output=True, text=True, env=env)
    assert done.returncode == 2 and "submit from the repository's folder" in done.stderr


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"MINITRON_RUNTIME": "podman"}, "expected venv, pyxis or apptainer"),
        ({"MINITRON_RUNTIME": "pyxis"}, "without MINITRON_IMAGE"),
        ({"MINITRON_PYTHON": "/nowhere/python"}, "no Python at /nowhere/python"),
    ],
)
def test_a_wrong_site_is_named(tmp_path, settings, says):
    env = {"PATH": "/usr/bin:/bin", "MINITRON_JOBS": str(tmp_path), **settings}
    command = ["bash", str(SLURM / "submit.sh"), "slurm/distill.sh", "+model=tiny_pl"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 2 and says in done.stderr


@pytest.mark.parametrize(("code", "tries"), [(1, 0), (137, 1), (75, 3)])
def test_what_gets_nowhere_is_not_requeued_for_ever(tmp_path, code, tries):
    """The two functions of slurm/job.sh that decide it, over attempts of one job that are alike but for a new checkpoint."""
    (run := tmp_path / "run" / "steps").mkdir(parents=True)
    script = """
        source <(sed -n '/^progress()/,/^}/p; /^requeue()/,/^}/p' "$1/job.sh")
        job=$2 part=-3 name=job me=7_3
        say() { echo "$@"; }
        scontrol() { echo requeued; }
        sleep() { :; }
        for attempt in 0 1 2 3 4 5 6; do
            notes=$job/attempt-$attempt
            mkdir -p "$notes"
            before="$(progress)"
            printf %s "$job/run" >"$notes/folder"  # as the recipe writes it
            [ "$attempt" != 0 ] && [ "$attempt" != 2 ] || mkdir "$job/run/steps/step=$attempt"
            requeue "$3" || exit 0
        done
    """
    done = subprocess.run(["bash", "-uc", script, "-", str(SLURM), str(tmp_path), str(code)], capture_output=True, text=True)
    assert done.stderr == "" and run.is_dir()
    # the first attempt made something; the third, where it comes so far, too: tries are counted from there
    assert done.stdout.splitlines().count("requeued") == (1 if tries == 0 else 3 + tries)


def facts(node: str, **other) -> dict:
    return {
        "node": node,
        "lacks": [],
        "python": "3.12.3",
        "lock": "a",
        "versions": "b",
        "torch": "2.9",
        "driver": "580",
    } | other


def test_a_sick_node_is_named():
    assert sick([facts("n1"), facts("n2")], [], 2) == []
    assert sick([facts("n1"), facts("n2", lacks=["GPU 3: uncorrectable memory errors"])], [], 2) == [
        "n2: GPU 3: uncorrectable memory errors"
    ]
    others = [facts("n1"), facts("n2"), facts("n3", driver="570")]
    assert sick(others, [], 3) == ["n3: driver is 570, on 2 other node(s) 580"]
    silent = sick([facts("n1")], ["No such file"], 2)
    assert "1 of 2 node(s) did not answer (those that did: n1)" in silent[0] and "No such file" in silent
