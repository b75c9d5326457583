"""Variables that libraries read when they start, with the values that GPUs want: set where the user has said nothing.

Every process of a stage sets its own, whoever launched it, before it imports torch.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from nemo_plugins.configs.platform import Kind, PlatformConfig
from nemo_plugins.platforms import gpus

MARGIN = "16"  # streaming multiprocessors; NeMo's own launcher: nemo/lightning/run/plugins.py, PerfEnvPlugin
BLACKWELL = 10.0  # compute capability


def prepare(platform: PlatformConfig, uses_nemo: bool) -> None:
    """Set what fits this machine; without a GPU nothing, and with `platform.kind=cpu` hide those that are here."""
    if platform.kind is Kind.cpu:
        gpus.hide()
    elif gpus.device_files():
        for name, value in (caches() | (training(platform) if uses_nemo else {})).items():
            os.environ.setdefault(name, value)


def home() -> None:
    """Without HOME, and with no entry in /etc/passwd, HOME becomes a temporary folder that this user alone reads and writes.

    NeMo asks for a home while it is imported (nemo/lightning/base.py:26). All processes of a user on a node have the same one:
    a warm start compares their variables.
    """
    if os.path.expanduser("~") != "~":
        return
    folder = Path(tempfile.gettempdir()) / f"minitron-home-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or not stat.S_ISDIR(found.st_mode):  # a stranger's
        folder = Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
    os.environ["HOME"] = str(folder)


def caches() -> dict[str, str]:
    """Folders of this node for what is compiled: a home is one folder for all nodes and jobs.

    torch's extensions (ModelOpt's CUDA kernels) are compiled under a lock file that a process which is killed leaves behind,
    and the next one waits for ever (torch/utils/file_baton.py): each attempt of a job, and each plain call, has its own
    folder. Triton writes whole files under a name of their own, so one folder of a user is safe. torch.compile's is on the
    node by itself.
    """
    folder = Path(tempfile.gettempdir()) / f"minitron-{os.getuid()}"
    job, attempt = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_RESTART_COUNT", "0")
    owner = f"job-{job}-{attempt}" if job else f"process-{os.getpid()}"
    return {"TRITON_CACHE_DIR": str(folder / "triton"), "TORCH_EXTENSIONS_DIR": str(folder / "extensions" / owner)}


def training(platform: PlatformConfig) -> dict[str, str]:
    """What NeMo's own launcher sets (nemo/lightning/run/plugins.py, PerfEnvPlugin), by its rules.

    Not its TORCH_NCCL_AVOID_RECORD_STREAMS (nemo/collections/llm/recipes/run/executor.py): torch does so by itself since 2.8,
    and warns of the variable.
    """
    variables = {}
    if "PYTORCH_ALLOC_CONF" not in os.environ:  # torch's newer name of the same
        # micro-batches differ in length, and fixed segments fragment; nothing here records CUDA graphs, which forbid it
        variables["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    if platform.devices * platform.nodes > 1:
        variables["TORCH_NCCL_HIGH_PRIORITY"] = "1"
        # room for communication beside Transformer Engine's norms
        variables["NVTE_FWD_LAYERNORM_SM_MARGIN"] = variables["NVTE_BWD_LAYERNORM_SM_MARGIN"] = MARGIN
    if platform.tensor_parallel > 1 or platform.context_parallel > 1:
        capability = gpus.compute_capability()
        if capability:
            # 1 keeps kernels in the order of their launch, so that a communication comes before the product that it overlaps;
            # Blackwell overlaps without, and wants streams that do not wait for each other
            variables["CUDA_DEVICE_MAX_CONNECTIONS"] = "32" if capability >= BLACKWELL else "1"
    return variables
