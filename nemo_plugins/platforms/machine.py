"""What a machine has, without torch: the facts that `recipes/doctor.py` judges and that a job compares its nodes by."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import sys
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.platforms import gpus, locked
from nemo_plugins.runs import locks, paths
from nemo_plugins.runs.errors import UserError

SLURM = ("sbatch", "srun", "scontrol", "sinfo")
CONTAINERS = ("docker", "podman", "enroot", "apptainer", "singularity")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CGROUP = Path("/sys/fs/cgroup")
COMPAT = Path("/usr/local/cuda/compat")  # NVIDIA's images: newer CUDA on an older driver of a data centre


def facts(root: str | Path = "runs") -> dict[str, Any]:
    """What this machine has, ready for JSON.

    Of one job's nodes `python`, `lock`, `versions`, `torch`, `driver` and the GPUs' names ought to be equal.

    Args:
        root: folder of the runs: whether it can be written to is tried with a file of 4 KiB that is gone at once.
    """
    lock, here = locked.wanted(), locked.installed()
    differ, absent = locked.differences(lock, here)
    host = socket.gethostname()
    return {
        "host": host,
        "node": os.environ.get("SLURMD_NODENAME") or host,
        "code": str(REPOSITORY),
        "python": ".".join(map(str, sys.version_info[:3])),
        "executable": sys.executable,
        "lock": hashlib.sha256(locked.LOCK.read_bytes()).hexdigest()[:16],
        "locked": len(lock),
        "versions": locked.fingerprint(lock, here),
        "differ": differ,
        "absent": absent,
        "left_out": locked.left_out(here),
        "elsewhere": [name for name in locked.elsewhere() if name not in here],
        "torch": here.get("torch"),
        "torch_cuda": torch_cuda(),
        "nccl": nccl(here),
        "transformer_engine": here.get("transformer-engine"),
        "transformer_engine_range": transformer_engine_range(),
        "apex": here.get("apex") if find_spec("amp_C") else None,  # another package of that name has no kernels
        "gradient_fusion": find_spec("fused_weight_gradient_mlp_cuda") is not None,
        "vllm": here.get("vllm"),
        **gpus.read(),
        "cuda_compat": COMPAT.is_dir(),
        "cores": len(os.sched_getaffinity(0)),
        **memory(),
        "shm_bytes": shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0,
        "root": place(Path(root)),
        "hf_cache": place(paths.hf_home()),
        "hf_token": bool(os.environ.get("HF_TOKEN")) or (paths.hf_home() / "token").is_file(),
        "slurm": [name for name in SLURM if shutil.which(name)],
        "containers": [name for name in CONTAINERS if shutil.which(name)],
        "inside": inside(),
        "browser": any(map(shutil.which, BROWSERS)),
    }


def torch_cuda() -> str | None:
    """The CUDA that torch is built for, from its `version.py`; None: for none, or there is no torch."""
    found = find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return None
    file = Path(found.submodule_search_locations[0]) / "version.py"
    match = re.search(r"^cuda\b[^=]*= ?['\"]([\d.]+)['\"]", file.read_text() if file.is_file() else "", re.MULTILINE)
    return match[1] if match else None


def transformer_engine_range() -> str | None:
    """The versions that megatron-core names, in its extra `dev`; None: it is not installed, or names none."""
    try:
        lines = metadata.requires("megatron-core") or []
    except metadata.PackageNotFoundError:
        return None
    match = next(filter(None, (re.match(r"transformer-engine(?:\[\w+\])?\s*([^;]+)", line) for line in lines)), None)
    return match[1].strip(" ()") if match else None


def nccl(here: dict[str, str]) -> str | None:
    """NCCL's version: of the package beside torch, else of the system's library; None: neither is here."""
    for name in ("nvidia-nccl-cu13", "nvidia-nccl-cu12"):
        if name in here:
            return here[name]
    libraries = sorted(Path(f"/usr/lib/{os.uname().machine}-linux-gnu").glob("libnccl.so.2.*"))
    return libraries[-1].name.removeprefix("libnccl.so.") if libraries else None


def place(path: Path) -> dict[str, Any]:
    """Of a folder that there is or will be: `path`, `free_bytes`, `writable`, and `problem`: why not, or None."""
    path, free = Path(os.path.expanduser(path)).absolute(), 0
    try:
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        problem = None if there.is_dir() else f"{there} is no folder"
        free = shutil.disk_usage(there).free
        if not problem:
            with tempfile.TemporaryFile(dir=there) as file:  # a real one: permissions say little on a network's file system
                file.write(bytes(4096))
                file.flush()
                os.fsync(file.fileno())
                locks.take(file, wait=False)  # every stage takes one
    except UserError:
        problem = "its file system has no locks (Lustre: mount it with -o flock)"
    except OSError as error:
        problem = error.strerror or str(error)
    return {"path": str(path), "free_bytes": free, "writable": problem is None, "problem": problem}


def memory() -> dict[str, int | None]:
    """`memory_bytes` that this process may use in all, the control group's bound included, and `memory_free_bytes` now."""
    file = Path("/proc/meminfo")
    lines = dict(line.split(":") for line in file.read_text().splitlines()) if file.is_file() else {}
    total, free = (1024 * int(lines[key].split()[0]) if key in lines else None for key in ("MemTotal", "MemAvailable"))
    bound = group_bound(CGROUP, Path("/proc/self/cgroup"))
    if bound is not None:
        limit, used = bound
        total = min(total, limit) if total else limit
        free = min(free, limit - used) if free is not None else limit - used
    return {"memory_bytes": total, "memory_free_bytes": free}


def group_bound(root: Path, own: Path) -> tuple[int, int] | None:
    """The tightest `memory.max` of the control groups (version 2) that hold this process, with what is used under it."""
    match = re.search(r"^0::/(.*)$", own.read_text() if own.is_file() else "", re.MULTILINE)
    if not match:
        return None
    found = []
    folder = root / match[1]
    for group in (folder, *folder.parents):
        if not group.is_relative_to(root):
            break
        limit, used = group / "memory.max", group / "memory.current"
        if limit.is_file() and used.is_file() and (bytes_ := limit.read_text().strip()).isdigit():
            found.append((int(bytes_), int(used.read_text())))
    return min(found, default=None)


def inside() -> str | None:
    """What container this process is in, as far as it tells; None: in none that is known."""
    if os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER"):
        return "apptainer"
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    return "enroot" if os.environ.get("ENROOT_ROOTFS") else None
