"""Files of sites: what is asked of Slurm where a node has four GPUs, and where it has eight.

sbatch is a script that prints, but in the test of a real Slurm whose nodes are said to have what the site's have.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import Cluster, lacking

REPOSITORY = Path(__file__).resolve().parents[2]
SITES = sorted((REPOSITORY / "slurm" / "sites").glob("*.env"))
SHAPES = {  # of a stage whose header asks for 2 nodes of 8 GPUs, and of one GPU
    "athena": (["--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--cpus-per-task=16"], ["--cpus-per-task=16"]),
    "leonardo": (["--nodes=4", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=8"], ["--cpus-per-task=8"]),
    "generic": ([], []),
}


def program(path: Path, body: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def checkout(tmp_path):
    """A checkout; gives a function that puts a site's file into it and returns its folder."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("conf", "nemo_plugins", "recipes", "assets", "pyproject.toml", "requirements.lock"):
        (root / name).symlink_to(REPOSITORY / name)
    shutil.copytree(REPOSITORY / "slurm", root / "slurm")

    def of(site: str) -> Path:
        settings = (REPOSITORY / "slurm" / "sites" / f"{site}.env").read_text()
        (root / "slurm" / "site.env").write_text(f"{settings}\nexport MINITRON_RUNTIME=venv\n")
        return root

    return of


@pytest.fixture
def submit(tmp_path, checkout):
    """Run a script of slurm/ in a checkout with a site's file; Python prints its arguments, sbatch `sbatch:` and its own."""
    program(tmp_path / "bin" / "sbatch", 'echo "sbatch: $*" >&2; echo 7')
    printing = program(tmp_path / "bin" / "python", 'echo "python: $*"')

    def run(site: str, script: str, *words: str, python: str = printing, **variables: str):
        root = checkout(site)
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


@pytest.mark.long
@pytest.mark.skipif(lacking() is not None, reason=str(lacking()))
@pytest.mark.parametrize(("site", "nodes", "gpus"), [("leonardo", 4, 4), ("athena", 2, 8)])
def test_slurm_runs_a_task_for_each_gpu_of_the_sites_nodes(tmp_path, checkout, site, nodes, gpus):
    """Without a flag, by a real Slurm whose nodes have the site's GPUs and cores; Python says which task of which node."""
    root = checkout(site)
    ask = f"source {root}/slurm/site.env; echo $SBATCH_PARTITION $MINITRON_CPUS_PER_GPU"
    partition, cores = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    cluster = Cluster(tmp_path / "slurm", nodes, gpus * int(cores), gpus, partition, minutes=24 * 60)
    python = program(tmp_path / "bin" / "python", 'echo "$SLURMD_NODENAME $SLURM_PROCID/$SLURM_NTASKS $SLURM_LOCALID $*"')
    cluster.env |= {"MINITRON_PYTHON": python, "MINITRON_JOBS": str(tmp_path / "jobs")}
    try:
        cluster.up()
        sent = cluster.run("bash", str(root / "slurm" / "submit.sh"), "slurm/distill.sh", "+model=tiny_pl", cwd=root)
        job = sent.stdout.split()[-1]
        assert cluster.ended(job, 120) == "COMPLETED", (root / f"distill-{job}.log").read_text()
        said = [file.read_text().split() for file in (tmp_path / "jobs" / job / "attempt-0").glob("rank-*.log")]
    finally:
        cluster.down()
    tasks = {(f"n{1 + rank // gpus}", f"{rank}/{nodes * gpus}", str(rank % gpus)) for rank in range(nodes * gpus)}
    assert len(said) == len(tasks) and {tuple(one[:3]) for one in said} == tasks
    assert all({f"platform.nodes={nodes}", f"platform.devices={gpus}"} <= set(one) for one in said)


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
