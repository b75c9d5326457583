"""What a stage sets in its environment before torch is imported, and what it leaves to the user."""

import importlib
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from nemo_plugins import platforms
from nemo_plugins.configs.schema import Kind, PlatformConfig
from nemo_plugins.platforms import environment, gpus
from nemo_plugins.runs.prepare import compose
from nemo_plugins.runs.stages import by_name

OF_NEMO = {
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "NVTE_BWD_LAYERNORM_SM_MARGIN",
    "NVTE_FWD_LAYERNORM_SM_MARGIN",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_NCCL_HIGH_PRIORITY",
}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A GPU of a compute capability, or none, and nothing in the environment; gives what `prepare` has set."""
    for name in [*os.environ]:
        if name in OF_NEMO or name.startswith(("TRITON_", "TORCH_EXT", "SLURM_", "PYTORCH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(gpus, "DEV", tmp_path)

    def prepare(capability: float | None = 9.0, uses_nemo: bool = True, **platform) -> dict[str, str]:
        if capability:
            (tmp_path / "nvidia0").touch()
        monkeypatch.setattr(gpus, "compute_capability", lambda: capability)
        before = dict(os.environ)
        environment.prepare(PlatformConfig(**platform), uses_nemo)
        return {name: value for name, value in os.environ.items() if before.get(name) != value}

    return prepare


@pytest.mark.parametrize("kind", [Kind.cpu, Kind.auto])
def test_without_a_gpu_nothing_is_set(machine, kind):
    assert machine(None, kind=kind) == {}


def test_platform_cpu_hides_the_gpus_that_are_here(machine):
    """NeMo takes a GPU that it sees, whatever the plan was made for."""
    assert machine(kind=Kind.cpu) == {"CUDA_VISIBLE_DEVICES": ""}


def test_one_gpu_has_nothing_to_overlap(machine):
    assert machine().keys() & OF_NEMO == {"PYTORCH_CUDA_ALLOC_CONF"}


def test_several_gpus_leave_room_for_communication(machine):
    found = machine(devices=8)
    assert found["NVTE_FWD_LAYERNORM_SM_MARGIN"] == found["NVTE_BWD_LAYERNORM_SM_MARGIN"] == "16"
    assert "CUDA_DEVICE_MAX_CONNECTIONS" not in found


@pytest.mark.parametrize(("capability", "connections"), [(8.0, "1"), (9.0, "1"), (10.0, "32"), (12.0, "32")])
@pytest.mark.parametrize("parallel", ["tensor_parallel", "context_parallel"])
def test_connections_go_by_the_gpus_and_only_where_a_layer_is_cut(machine, capability, connections, parallel):
    assert machine(capability, devices=2, **{parallel: 2})["CUDA_DEVICE_MAX_CONNECTIONS"] == connections


def test_a_driver_that_does_not_say_decides_nothing(machine, monkeypatch):
    monkeypatch.setattr(gpus, "device_files", lambda: ["nvidia0"])
    assert "CUDA_DEVICE_MAX_CONNECTIONS" not in machine(None, devices=2, tensor_parallel=2)


def test_what_the_user_has_set_stays(machine, monkeypatch):
    for name in (*OF_NEMO, "TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR"):
        monkeypatch.setenv(name, "mine")
    assert machine(devices=2, tensor_parallel=2) == {}
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "mine")
    assert machine(devices=2, tensor_parallel=2) == {}


def test_a_stage_without_nemo_gets_the_folders_alone(machine):
    assert machine(devices=8, uses_nemo=False).keys() == {"TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR"}


def test_a_lock_that_a_killed_attempt_left_is_not_the_next_ones(machine, monkeypatch):
    """Each attempt of a job compiles in a folder of its own, the same for all processes of a node; Triton's is kept."""
    found = []
    for job, attempt in (("7", None), ("7", None), ("7", "1"), ("8", None)):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", attempt) if attempt else monkeypatch.delenv("SLURM_RESTART_COUNT", False)
        for name in ("TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR"):
            monkeypatch.delenv(name, raising=False)
        found.append(machine())
    first, other_process, other_attempt, other_job = (each["TORCH_EXTENSIONS_DIR"] for each in found)
    assert first == other_process and len({first, other_attempt, other_job}) == 3
    assert len({each["TRITON_CACHE_DIR"] for each in found}) == 1
    assert not first.startswith(os.path.expanduser("~/"))


@pytest.mark.parametrize(("said", "capability"), [("9.0\n10.0\n", 10.0), ("No devices were found\n", None), ("", None)])
def test_the_newest_gpu_of_the_driver(monkeypatch, tmp_path, said, capability):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{said}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpus.compute_capability() == capability


@pytest.mark.parametrize(("recipe", "uses_nemo"), [("distill", True), ("eval", False)])
def test_a_stage_prepares_its_environment_before_it_runs(monkeypatch, recipe, uses_nemo):
    told = []
    monkeypatch.setattr(environment, "prepare", lambda platform, uses_nemo: told.append(uses_nemo))
    run = SimpleNamespace(recipe=recipe, begin=lambda: None, close=lambda: None, stage=None)
    module = importlib.import_module("nemo_plugins.runs.recipe")
    module._work(lambda cfg, run: told.append("ran"), by_name()[recipe], compose(["+model=tiny_pl"]), run)
    assert told == [uses_nemo, "ran"]


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """A user whom the machine does not know, without HOME, on a machine with Transformer Engine; gives its temporary folder."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(platforms, "has_cuda", lambda: True)
    monkeypatch.setattr(platforms, "has_transformer_engine", lambda: True)
    # as an import of NeMo asks for it
    engine = SimpleNamespace(apply=lambda: (str(Path.home() / ".cache" / "nemo"),))
    monkeypatch.setattr(platforms, "with_transformer_engine", engine, raising=False)
    return tmp_path


def test_nemo_is_imported_by_a_user_without_a_home(homeless):
    """In an image, and under Slurm on a node that does not know the user."""
    own = homeless / f"minitron-home-{os.getuid()}"
    for _ in range(2):  # each process of the user
        assert platforms.prepare.__wrapped__().adjustments == (str(own / ".cache" / "nemo"),)
        assert own.stat().st_mode & 0o777 == 0o700
        del os.environ["HOME"]


@pytest.mark.parametrize("theirs", ["open", "link", "file"])
def test_a_home_that_others_made_or_read_is_not_taken(homeless, theirs):
    name = homeless / f"minitron-home-{os.getuid()}"
    (homeless / "elsewhere").mkdir(mode=0o700)
    if theirs == "open":
        name.mkdir()
        name.chmod(0o777)
    else:
        name.symlink_to(homeless / "elsewhere") if theirs == "link" else name.touch(0o700)
    environment.home()
    found = Path(os.environ["HOME"])
    assert found not in (name, homeless / "elsewhere") and found.is_dir() and found.stat().st_mode & 0o777 == 0o700


def test_a_home_that_is_there_stays(homeless, monkeypatch):
    monkeypatch.setenv("HOME", "/nowhere")
    environment.home()
    assert os.environ["HOME"] == "/nowhere" and not list(homeless.iterdir())


def test_megatrons_managed_memory_is_not_compiled(monkeypatch, tmp_path):
    """Megatron compiles it where it is imported, under a lock file that may be a killed job's."""
    folder = tmp_path / "megatron" / "core" / "inference"
    folder.mkdir(parents=True)
    for package in (tmp_path / "megatron", tmp_path / "megatron" / "core", folder):
        (package / "__init__.py").touch()
    (folder / "unified_memory.py").write_text("raise RuntimeError('compiled')")
    monkeypatch.syspath_prepend(tmp_path)
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "megatron"}
    for name in before:
        del sys.modules[name]
    try:
        monkeypatch.setattr(platforms, "has_cuda", lambda: True)
        monkeypatch.setattr(platforms, "has_transformer_engine", lambda: True)
        monkeypatch.setattr(platforms, "with_transformer_engine", SimpleNamespace(apply=tuple), raising=False)
        assert platforms.prepare.__wrapped__() == platforms.Platform("gpu", True, ())
        assert importlib.import_module(platforms.UNIFIED_MEMORY).has_unified_memory is False
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "megatron"]:
            del sys.modules[name]
        sys.modules.update(before)
