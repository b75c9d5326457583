"""Files of sites: what is asked of Slurm where a node has four GPUs, and where it has eight. sbatch is a script that prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SITES = sorted((REPOSITORY / "slurm" / "sites").glob("*.env"))
SHAPES = {  # of a stage whose header asks for 2 nodes of 8 GPUs, and of one GPU
    "athena": (["--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--cpus-per-task=16"], ["--cpus-per-task=16"]),
    "leonardo": (["--nodes=4", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=8"], ["--cpus-per-task=8"]),
    "generic": ([], []),
}


@pytest.fixture
def submit(tmp_path):
    """Run a script of slurm/ in a checkout with a site's file; Python prints its arguments, sbatch `sbatch:` and its own."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("conf", "nemo_plugins", "recipes", "assets", "pyproject.toml", "requirements.lock"):
        (root / name).symlink_to(REPOSITORY / name)
    shutil.copytree(REPOSITORY / "slurm", root / "slurm")
    (tmp_path / "bin").mkdir()
    for name, body in (("python", 'echo "python: $*"'), ("sbatch", 'echo "sbatch: $*" >&2; echo 7')):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def run(site: str, script: str, *words: str, python: str = f"{tmp_path}/bin/python", **variables: str):
        settings = (REPOSITORY / "slurm" / "sites" / f"{site}.env").read_text()
        (root / "slurm" / "site.env").write_text(f"{settings}\nexport MINITRON_RUNTIME=venv\n")
        env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path), "MINITRON_JOBS": str(tmp_path / "jobs")}
        command = ["bash", str(root / "slurm" / script), *words]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=root, env=env | {"MINITRON_PYTHON": python} | variables
        )

    return run


@pytest.mark.parametrize("site", SHAPES)
def test_a_stage_takes_the_shape_of_the_sites_nodes(submit, site):
    whole, single = SHAPES[site]
    distill = submit(site, "submit.sh", "slurm/distill.sh", "+model=tiny_pl")
    asked = next(line for line in distill.stderr.splitlines() if line.startswith("sbatch: ")).split()[1:]
    assert asked[: len(whole)] == whole and asked[len(whole)].endswith("slurm/distill.sh")
    nodes, devices = (whole[0], whole[1]) if whole else ("--nodes=2", "--ntasks-per-node=8")
    assert f"platform.nodes={nodes.split('=')[1]} platform.devices={devices.split('=')[1]}" in distill.stdout
    gpu = re.findall(r"platform.(gpu=[\w-]+|gpu_memory_gib=\d+)", distill.stdout)
    assert gpu == {"athena": ["gpu=a100-40"], "leonardo": ["gpu=a100-80", "gpu_memory_gib=64"], "generic": []}[site]
    convert = submit(site, "submit.sh", "slurm/convert.sh", "+model=tiny_pl")
    asked = next(line for line in convert.stderr.splitlines() if line.startswith("sbatch: ")).split()[1:]
    assert asked[: len(single)] == single and asked[len(single)].endswith("slurm/convert.sh")
    report = submit(site, "submit.sh", "slurm/report.sh", "+model=tiny_pl")  # no GPU: nothing of their shape
    assert re.search(r"^sbatch: \S*slurm/report.sh", report.stderr, re.M)


def test_options_that_are_given_win_over_the_sites_shape(submit):
    done = submit("leonardo", "submit.sh", "--nodes=1", "slurm/distill.sh", "+model=tiny_pl", "platform.gpu_memory_gib=60")
    assert "--nodes=4 --ntasks-per-node=4 --gpus-per-node=4 --cpus-per-task=8 --nodes=1 " in done.stderr
    assert "platform.nodes=1 platform.devices=4" in done.stdout and "gpu_memory_gib=64" not in done.stdout


@pytest.mark.long
def test_every_job_of_a_chain_takes_the_shape_of_the_sites_nodes(submit):
    done = submit("leonardo", "minitron.sh", "+model=tiny_pl", "experiment=laptop", python=sys.executable)
    assert done.returncode == 0, done.stderr
    jobs = [line for line in done.stderr.splitlines() if line.startswith("sbatch: ")]
    trained = [job for job in jobs if re.search(r"slurm/(distill|sft|dpo|grpo).sh ", job)]
    assert len(trained) >= 4 and all("--nodes=4 --ntasks-per-node=4 --gpus-per-node=4" in job for job in trained)
    assert all("platform.gpu_memory_gib=64" in job for job in jobs)
    assert all("--ntasks-per-node" not in job for job in jobs if job not in trained)


def test_a_job_of_more_tasks_than_the_sites_nodes_have_gpus_says_how_to_submit_it(submit, tmp_path):
    """Plain sbatch takes the header's shape: where Slurm lets it through, the job says what does not fit before it starts."""
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NTASKS_PER_NODE": "8",
        "MINITRON_ROOT": str(tmp_path / "checkout"),
    }
    done = submit("leonardo", "job.sh", "distill", "0", "+model=tiny_pl", **job)
    assert done.returncode == 2 and "8 tasks a node, and a node of this site has 4 GPUs" in done.stderr
    assert "slurm/submit.sh slurm/distill.sh" in done.stderr and "python:" not in done.stdout


def test_a_sites_file_may_read_what_is_not_set(submit, tmp_path):
    """As profiles and modules do; the launcher's own scripts go on refusing it."""
    script = 'set -u; source "$1/slurm/environment.sh"; site "$1"; echo "${HERE:-none}"; : "$NOWHERE"'
    submit("generic", "submit.sh")
    file = tmp_path / "checkout" / "slurm" / "site.env"
    file.write_text('HERE="set$NOWHERE"\n')
    done = subprocess.run(
        ["bash", "-c", script, "-", str(tmp_path / "checkout")],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.stdout == "set\n" and done.returncode and "NOWHERE: unbound variable" in done.stderr


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_a_sites_file_names_its_sources_and_says_nothing_when_it_is_read(path):
    script = f'set -e; source {path}; echo "$SBATCH_ACCOUNT:$SBATCH_PARTITION:$MINITRON_RUNTIME:${{MINITRON_GPUS_PER_NODE:-}}"'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": "/home/me"}
    )
    assert done.stderr == "" and re.fullmatch(r"[\w-]+:[\w-]+:(venv|apptainer|pyxis):[48]?\n", done.stdout)
    text = path.read_text()
    cited, listed = set(re.findall(r"(?<!^# )\[(\d)\]", text, re.M)), set(re.findall(r"^# \[(\d)\] https://", text, re.M))
    assert cited == listed and (path.stem == "generic" or listed)


def test_singularity_is_taken_where_there_is_no_apptainer(tmp_path):
    (tmp_path / "image.sif").touch()
    script = f'set -u; source {REPOSITORY}/slurm/environment.sh; root=/r jobs=/j; runtime; echo "${{python[0]}}"'
    env = {"MINITRON_RUNTIME": "apptainer", "MINITRON_IMAGE": str(tmp_path / "image.sif")}
    for names, taken in ((["singularity"], "singularity"), (["singularity", "apptainer"], "apptainer"), ([], "apptainer")):
        folder = tmp_path / "-".join(["bin", *names])
        folder.mkdir()
        for name in names:
            (folder / name).write_text("#!/bin/sh\n")
            (folder / name).chmod(0o755)
        done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, env=env | {"PATH": str(folder)})
        assert done.stdout == f"{taken}\n", done.stderr


def test_the_page_about_clusters_has_every_site_as_its_file_has_it():
    page = (REPOSITORY / "docs" / "clusters.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \(\w+\) \|(.*)\|$", page, re.M))
    assert set(rows) == {path.stem for path in SITES} - {"generic"}
    for name, row in rows.items():
        text = (REPOSITORY / "slurm" / "sites" / f"{name}.env").read_text()
        gpus, memory, partition = re.search(r"(\d) of (\d+) GB .*`([\w-]+)`", row).groups()
        assert re.search(rf"^export MINITRON_GPUS_PER_NODE={gpus}\s", text, re.M)
        assert re.search(rf"^export SBATCH_PARTITION={partition}\s", text, re.M)
        assert re.search(rf"^export MINITRON_GPUS_PER_NODE=.*{memory} ?GB", text, re.M)
