"""What a machine is found to have and lack: a real script in nvidia-smi's place, real files, and facts of other machines."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.planning import doctor_plan
from nemo_plugins.platforms import gpus, locked, machine
from nemo_plugins.runs.prepare import compose

GPU = """
  <gpu id="00000000:{number:02X}:00.0">
    <product_name>NVIDIA H100 80GB HBM3</product_name>
    <uuid>GPU-{number}7f0c2a4</uuid>
    <gpu_reset_status><reset_required>Requested functionality has been deprecated</reset_required></gpu_reset_status>
    <gpu_recovery_action>None</gpu_recovery_action>
    <mig_mode><current_mig>Disabled</current_mig></mig_mode>
    <fb_memory_usage><total>81559 MiB</total><reserved>545 MiB</reserved><used>1 MiB</used></fb_memory_usage>
    <ecc_mode><current_ecc>Enabled</current_ecc></ecc_mode>
    <ecc_errors>
      <volatile>
        <sram_correctable>0</sram_correctable>
        <sram_uncorrectable_parity>0</sram_uncorrectable_parity>
        <sram_uncorrectable_secded>0</sram_uncorrectable_secded>
        <dram_correctable>0</dram_correctable>
        <dram_uncorrectable>0</dram_uncorrectable>
      </volatile>
      <aggregate><dram_uncorrectable>2</dram_uncorrectable><sram_threshold_exceeded>No</sram_threshold_exceeded></aggregate>
    </ecc_errors>
    <remapped_rows>
      <remapped_row_pending>No</remapped_row_pending>
      <remapped_row_failure>No</remapped_row_failure>
    </remapped_rows>
    <clocks_event_reasons>
      <clocks_event_reason_hw_thermal_slowdown>Not Active</clocks_event_reason_hw_thermal_slowdown>
    </clocks_event_reasons>
  </gpu>"""
HEAD = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <driver_version>580.95.05</driver_version>
  <cuda_version>13.0</cuda_version>"""


def smi(count: int = 8) -> str:
    """What `nvidia-smi -q -x` prints of healthy H100s, as far as it is read."""
    return f"{HEAD}{''.join(GPU.format(number=number) for number in range(count))}\n</nvidia_smi_log>\n"


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a script that prints a text and ends with a code where nvidia-smi is looked for."""

    def place(text: str, code: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "said").write_text(text)
        script = folder / "nvidia-smi"
        script.write_text(f'#!/bin/sh\n[ "$*" = "-q -x" ] || exit 9\ncat {folder}/said\nexit {code}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return place


def facts(**changes: object) -> dict:
    """Of a node in the image: torch for CUDA 13, Transformer Engine, Apex, NCCL, and all that is locked."""
    image = {"torch": "2.9.0a0", "torch_cuda": "13.0", "transformer_engine": "2.9.0", "apex": "0.1", "nccl": "2.27.7"}
    image["gradient_fusion"] = True
    return machine.facts() | image | {"absent": [], "differ": {}, "vllm": None, "cuda_compat": False} | changes


def judge(*overrides: str, **changes: object) -> doctor_plan.Verdict:
    return doctor_plan.judge(compose(["+model=tiny_pl", *overrides]), facts(**changes))


def texts(verdict: doctor_plan.Verdict, state: str) -> str:
    return "\n".join(f"{one.what}: {one.found} - {one.remedy}" for one in verdict.findings if one.state == state)


def test_a_healthy_node_of_eight_is_fit_for_eight(nvidia_smi):
    nvidia_smi(smi())
    verdict = judge("platform=gpu", "platform.devices=8")
    assert not verdict.lacks
    on = {name: where for name, _, where, _ in verdict.stages}
    assert on["distill"] == "8 x NVIDIA H100 80GB HBM3" and on["quantize"].startswith("CPU")
    assert {here for _, here, _, _ in verdict.stages} == {"yes"}
    found = gpus.read()
    assert (found["driver"], found["cuda"], found["gpu_error"]) == ("580.95.05", "13.0", None)
    assert found["gpus"][0]["memory_bytes"] == 81559 << 20


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("<dram_uncorrectable>0<", "<dram_uncorrectable>3<", "3 uncorrectable memory errors"),
        ("<remapped_row_pending>No<", "<remapped_row_pending>Yes<", "reset it"),
        ("<remapped_row_failure>No<", "<remapped_row_failure>Yes<", "replace it"),
        ("<gpu_recovery_action>None<", "<gpu_recovery_action>Drain and Reset<", "asks for: Drain and Reset"),
        ("<sram_threshold_exceeded>No<", "<sram_threshold_exceeded>Yes<", "replace it"),
    ],
)
def test_a_sick_gpu_is_named_with_what_is_wrong(nvidia_smi, before, after, says):
    healthy = smi()
    third = healthy.index("GPU-27f0c2a4")
    nvidia_smi(healthy[:third] + healthy[third:].replace(before, after, 1))
    verdict = judge("platform=gpu", "platform.devices=8")
    said = texts(verdict, "lacks")
    assert len(verdict.lacks) == 1 and "GPU 2 (GPU-27f0c2a4)" in said and says in said and "--exclude" in said
    assert {where for name, _, where, _ in verdict.stages if name == "dpo"} == {"7 x NVIDIA H100 80GB HBM3"}


def test_what_makes_a_gpu_slow_or_small_is_said_and_no_obstacle(nvidia_smi):
    slow = smi(1).replace("_thermal_slowdown>Not Active", "_thermal_slowdown>Active").replace("<used>1 MiB", "<used>40960 MiB")
    nvidia_smi(slow)
    verdict = judge("platform=gpu")
    assert not verdict.lacks
    assert "40 GiB of its memory are in use" in texts(verdict, "note")
    assert "slowed down: thermal slowdown" in texts(verdict, "note")


@pytest.mark.parametrize(
    "text", ["Unable to determine the device handle for GPU0: 0000:3B:00.0: GPU is lost.\n", "", smi()[:200]]
)
def test_a_driver_that_fails_is_an_obstacle_even_to_auto(nvidia_smi, text):
    nvidia_smi(text, code=0 if text.startswith("<") else 15)
    verdict = judge("platform=auto")
    assert verdict.platform == "gpu" and verdict.lacks[0].what == "GPUs"
    assert not text.startswith("Unable") or verdict.lacks[0].found == text.strip()
    assert not judge("platform=cpu").lacks
    assert {here for name, here, _, _ in verdict.stages if name in ("distill", "eval")} == {"no"}


def test_fewer_gpus_than_asked_for(nvidia_smi, monkeypatch):
    nvidia_smi(smi(7))
    assert "platform.devices=8 wants 8" in texts(judge("platform=gpu", "platform.devices=8"), "lacks")
    assert not judge("platform=gpu", "platform.devices=7").lacks
    for asked, left in (("", 0), ("-1", 0), ("1,0", 2), ("GPU-37f0c2a4", 1), ("0,99,1", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
        assert len(gpus.read()["gpus"]) == left
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert [gpu["index"] for gpu in gpus.read()["gpus"]] == [1, 0]


def test_no_gpu_is_no_obstacle_where_none_is_asked_for():
    nothing = {"gpus": [], "gpu_error": None, "driver": None, "cuda": None}
    assert judge("platform=auto", **nothing).platform == "cpu"
    assert not judge("platform=auto", **nothing).lacks
    assert "--gpus-per-node=1" in texts(judge("platform=gpu", **nothing), "lacks")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cuda": "12.4", "driver": "550.54"}, "torch is built for 13.0"),
        ({"torch_cuda": None}, "torch is built for CPUs"),
        ({"torch": None, "torch_cuda": None, "absent": ["megatron-core"]}, "megatron-core"),
    ],
)
def test_software_that_does_not_fit_the_gpus(nvidia_smi, changes, says):
    nvidia_smi(smi(1))
    assert says in texts(judge("platform=gpu", **changes), "lacks")


def test_an_older_driver_is_bridged_by_the_containers_libraries(nvidia_smi):
    nvidia_smi(smi(1).replace("<cuda_version>13.0", "<cuda_version>12.4"))
    verdict = judge("platform=gpu", cuda_compat=True)
    assert not verdict.lacks and "compat" in texts(verdict, "note")


def test_without_transformer_engine_a_gpu_runs_and_the_table_says_what_it_loses(nvidia_smi):
    nvidia_smi(smi(1))
    verdict = judge("platform=gpu", transformer_engine=None, apex=None, gradient_fusion=False)
    assert not verdict.lacks and "sft.packing=thd" in texts(verdict, "note")
    assert "gradient accumulation: not fused" in texts(verdict, "note")
    assert "gradient accumulation: fused by Apex" in texts(judge("platform=gpu"), "ok")
    assert ["no sft.packing=thd: it wants Transformer Engine"] == [note for name, *_, note in verdict.stages if name == "sft"]


@pytest.mark.parametrize(
    ("version", "state"),
    [("2.7.0+e85d180", "lacks"), ("2.8.0", "lacks"), ("2.9.0a0", "ok"), ("2.9.0+70f53666", "ok"), ("2.10.0", "note")],
)
def test_a_transformer_engine_that_is_older_than_megatron_core_names_is_refused(nvidia_smi, version, state):
    nvidia_smi(smi(1))
    assert machine.transformer_engine_range() == "<2.10.0,>=2.9.0a0"  # of megatron-core 0.15.3
    [extra] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["gpu"]
    assert judge("platform=gpu", transformer_engine=extra.partition("==")[2]).lacks == []
    verdict = judge("platform=gpu", transformer_engine=version)
    [found] = [finding for finding in verdict.findings if finding.what == "Transformer Engine"]
    assert found.state == state and bool(verdict.lacks) == (state == "lacks")
    assert state == "ok" or ">=2.9.0a0" in f"{found.found}{found.remedy}"
    assert not judge("platform=cpu", transformer_engine=version).lacks


def test_apex_is_none_until_its_kernels_are_there(tmp_path, monkeypatch):
    (tmp_path / "apex-0.9.10.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    locked.installed.cache_clear()
    try:
        assert locked.installed()["apex"] == "0.9.10" and machine.facts()["apex"] is None
        (tmp_path / "amp_C.py").touch()
        assert machine.facts()["apex"] == "0.9.10"
    finally:
        locked.installed.cache_clear()


def test_versions_that_differ_and_packages_that_are_gone(tmp_path, monkeypatch):
    (tmp_path / "numpy-2.1.0.dist-info").mkdir()
    (tmp_path / "PyYAML-1.0.egg-info").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    locked.installed.cache_clear()
    try:
        here = locked.installed()
    finally:
        locked.installed.cache_clear()
    lock = locked.wanted()
    assert here["numpy"] == "2.1.0" and here["pyyaml"] == "1.0"  # what an import would find first
    differ, absent = locked.differences(lock, {name: version for name, version in here.items() if name != "lm-eval"})
    assert differ["numpy"] == ["1.26.4", "2.1.0"] and "lm-eval" in absent
    assert locked.fingerprint(lock, here) != locked.fingerprint(lock, here | {"torch": "2.0"})
    verdict = judge("platform=cpu", differ={"transformers": ["4.57.6", "5.0"]}, absent=["lm-eval", "trl"])
    assert "transformers 5.0 (4.57.6)" in texts(verdict, "note") and "trl" in texts(verdict, "note")
    assert "lm-eval" in texts(verdict, "lacks")
    stages = {name: (here, note) for name, here, _, note in verdict.stages}
    assert stages["eval"][0] == "no" and stages["distill"][0] == "yes"
    assert "transformers 5.0, locked 4.57.6" in stages["bench"][1]


def test_what_is_locked_for_another_machine_alone_is_no_fault_and_keeps_its_stages_away(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "cyllama" in locked.elsewhere() and "cyllama" not in locked.wanted() and "pulp" in locked.wanted()
    verdict = judge("platform=cpu", elsewhere=["cyllama"])
    stages = {name: (here, note) for name, here, _, note in verdict.stages}
    assert not verdict.lacks and stages["distill"][0] == "yes"
    assert stages["quantize"] == ("no", "not locked for this machine: cyllama")


def test_where_nothing_can_be_written(tmp_path):
    assert machine.place(tmp_path / "not" / "yet")["writable"]
    assert not list(tmp_path.iterdir())
    file = tmp_path / "file"
    file.touch()
    assert "is no folder" in machine.place(file / "runs")["problem"]
    unwritable = machine.place(Path("/proc/runs"))
    assert not unwritable["writable"] and unwritable["problem"]
    said = texts(judge("platform=cpu", root=unwritable), "lacks")
    assert said.startswith("run.root: /proc/runs: ")
    full = machine.place(tmp_path) | {"free_bytes": 1 << 20}
    assert "make room" in texts(judge("platform=cpu", root=full), "lacks")


def test_little_shared_memory_is_said():
    assert "--ipc=host" in texts(judge("platform=cpu", shm_bytes=64 << 20), "note")  # docker's own


def test_memory_is_what_the_control_groups_leave(tmp_path):
    job = tmp_path / "cgroup" / "slurm" / "job_1"
    job.mkdir(parents=True)
    own = tmp_path / "own"
    own.write_text("0::/slurm/job_1\n")
    assert machine.group_bound(tmp_path / "cgroup", own) is None
    for folder, limit, used in ((job, "max", 5), (job.parent, str(64 << 30), 1 << 30)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
    assert machine.group_bound(tmp_path / "cgroup", own) == (64 << 30, 1 << 30)


def test_the_kernels_log_tells_of_the_machine_and_not_of_programs():
    log = (
        "6,1,2,-;NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', GPU has fallen off the bus.\n"
        "6,1,3,-;NVRM: Xid (PCI:0000:3b:00): 31, pid=77, name=python, MMU Fault\n"
        "6,1,4,-;NVRM: Xid (PCI:0000:3b:00): 79, again\n"
    )
    assert gpus.xids(log) == {"79": 2} and gpus.xids(None) is None
    verdict = judge("platform=gpu", **gpus.parse(smi(1)), gpu_error=None, xids=gpus.xids(log))
    assert "Xid 79 (2 times)" in texts(verdict, "note")


def test_a_token_is_never_printed(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_value")
    found = machine.facts()
    assert found["hf_token"] is True and "hf_value" not in json.dumps(found)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """A copy of the code, as a job runs it, away from the checkout that the environment has installed."""
    folder = tmp_path_factory.mktemp("job") / "snapshot"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("nemo_plugins", "recipes", "conf"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    for name in ("minitron", "requirements.lock", "pyproject.toml"):
        shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def test_the_command_runs_with_an_images_python_and_sets_nothing_up(snapshot, tmp_path):
    variables = {"MINITRON_PYTHON": sys.executable, "SLURM_PROCID": "3", "SLURMD_NODENAME": "node7", "HF_HOME": str(tmp_path)}
    command = ["bash", snapshot / "minitron", "doctor", "platform=cpu", "doctor.json=true", f"run.root={tmp_path}/runs"]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not (snapshot / ".venv").exists() and not list(tmp_path.iterdir())
    [line] = done.stdout.splitlines()  # also of a process that is not the first
    said = json.loads(line)
    assert said["ok"] and said["node"] == "node7" and said["executable"] == sys.executable
    assert said["code"] == str(snapshot)
    assert len(said["lock"]) == len(said["versions"]) == 16
    assert said["root"]["writable"] and said["root"]["free_bytes"] > 0


@pytest.mark.parametrize(("libc", "refused"), [("glibc 2.28", True), ("glibc 2.9", True), ("glibc 2.31", False), ("", False)])
def test_setup_refuses_a_system_whose_glibc_is_older_than_the_wheels(snapshot, tmp_path, libc, refused):
    """RHEL 8, which clusters run, has 2.28: said before gigabytes are installed."""
    script = tmp_path / "getconf"
    script.write_text(f"#!/bin/sh\necho {libc}\n")
    script.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": "/nowhere/python"}
    done = subprocess.run(["bash", snapshot / "minitron", "setup"], env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and ("want 2.31 or later" in done.stderr) == refused
    assert ("needs Python" in done.stderr) != refused and not (snapshot / ".venv").exists()


def test_processes_that_a_snapshot_starts_run_the_snapshot(snapshot, tmp_path):
    code = (
        f"import subprocess, sys; sys.path.insert(0, {str(snapshot)!r})\n"
        "from nemo_plugins.runs import children\n"
        "children.import_this_code()\n"
        "children.import_this_code()\n"
        "say = 'import nemo_plugins, os; print(nemo_plugins.__file__, os.environ[\"PYTHONPATH\"])'\n"
        "subprocess.run([sys.executable, '-c', say])"
    )
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(snapshot / "nemo_plugins" / "__init__.py"), f"{snapshot}{os.pathsep}{REPOSITORY}"]


def test_what_is_missing_is_named_with_exit_code_2(tmp_path):
    recipe = REPOSITORY / "recipes" / "doctor.py"
    command = [sys.executable, recipe, "platform=cpu", "run.root=/proc/runs", "+model=bielik11b"]
    variables = {**os.environ, "HF_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "MISSING" in done.stdout and "huggingface-cli download" in done.stdout  # the weights of a model that is not here
    first, *more = done.stderr.splitlines()
    assert first.startswith("doctor: ") and first.endswith("platform=cpu cannot be used here")
    assert [line for line in more if line.startswith("run.root: /proc/runs: ")]
