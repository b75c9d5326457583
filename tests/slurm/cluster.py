"""A real Slurm of some nodes on this machine: Debian's slurm-wlm and munge, as root, without systemd and control groups."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("sbatch", "srun", "scontrol", "squeue", "munged", "slurmctld", "slurmd")
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
CONFIG = """\
ClusterName=tiny
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={root}/munge/munge.sock,cred_expire=10
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0
MinJobAge=600
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=5
InactiveLimit=0
ReturnToService=2
JobRequeue=1
SlurmdParameters=config_overrides
GresTypes=gpu
{nodes}
PartitionName={partition} Nodes=ALL Default=YES MaxTime={minutes} State=UP OverSubscribe=NO
"""


def lacking() -> str | None:
    """Why no cluster can be made here, or None."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "munged, slurmctld and slurmd want to be started by root here"


class Cluster:
    """Nodes n1, n2, … of so many cores and GPUs each, as Slurm believes; all are this machine."""

    def __init__(
        self, root: Path, nodes: int = 2, cores: int = 2, gpus: int = 0, partition: str = "cpu", minutes: int = 60
    ) -> None:
        self.root, self.cores, self.gpus, self.partition, self.minutes = root, cores, gpus, partition, minutes
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.env = {**os.environ, "SLURM_CONF": str(root / "slurm.conf"), "PATH": PATH}

    def up(self) -> None:
        for name in ("state", "munge", *(f"spool-{node}" for node in self.nodes)):
            (self.root / name).mkdir(parents=True)
        self.root.chmod(0o755)
        (self.root / "munge").chmod(0o700)
        key = self.root / "munge" / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host, (port, *ports) = socket.gethostname().split(".")[0], free_ports(1 + len(self.nodes))
        has = f"CPUs={self.cores} RealMemory=1000 Gres=gpu:{self.gpus}"
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={its} {has} State=UNKNOWN"
            for node, its in zip(self.nodes, ports, strict=True)
        )
        values = {"host": host, "root": self.root, "port": port, "nodes": nodes}
        values |= {"partition": self.partition, "minutes": self.minutes}
        (self.root / "slurm.conf").write_text(CONFIG.format(**values))
        files = [self.root / f"gpu{number}" for number in range(self.gpus)]  # any will do: nothing opens them
        for file in files:
            file.touch()
        (self.root / "gres.conf").write_text("".join(f"Name=gpu File={file}\n" for file in files))
        (self.root / "cgroup.conf").write_text("CgroupAutomount=no\n")
        munge = self.root / "munge"
        self.run(
            "munged", "--force", f"--key-file={key}", f"--socket={munge}/munge.sock", f"--pid-file={self.root}/munged.pid",
            f"--log-file={munge}/munged.log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        self.run("slurmctld", "-c", "-f", str(self.root / "slurm.conf"))
        for node in self.nodes:
            self.start(node)
        idle = f"idle {len(self.nodes)}"
        self.wait(lambda: self.run("sinfo", "-h", "-o", "%t %D").stdout.strip() == idle, 60, f"{idle} nodes")

    def set(self, key: str, value: str) -> None:
        """Another value of a setting."""
        file = self.root / "slurm.conf"
        file.write_text(re.sub(rf"^{key}=.*$", f"{key}={value}", file.read_text(), flags=re.MULTILINE))
        self.run("scontrol", "reconfigure")

    def start(self, node: str) -> None:
        self.run("slurmd", "-N", node, "-f", str(self.root / "slurm.conf"))

    def down(self) -> None:
        self.run("scancel", "--user=root", check=False)
        time.sleep(1)
        for file in (*(f"slurmd-{node}.pid" for node in self.nodes), "slurmctld.pid", "munged.pid"):
            if (pid := self.root / file).is_file():
                self.run("kill", pid.read_text().strip(), check=False)

    def run(self, *command: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        done = subprocess.run(command, capture_output=True, text=True, env=self.env, timeout=120, **options)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done

    def state(self, job: str) -> dict[str, str]:
        """Slurm's own words about a job."""
        said = self.run("scontrol", "show", "job", "--oneliner", job).stdout
        return dict(word.split("=", 1) for word in said.split() if "=" in word)

    def ended(self, job: str, seconds: float = 600) -> str:
        """Wait for the end of a job. Returns its state."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.wait(lambda: self.state(job)["JobState"] in over, seconds, f"job {job} to end")
        return self.state(job)["JobState"]

    def wait(self, done, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                queue = self.run("squeue", check=False).stdout
                raise AssertionError(f"waited {seconds:g} s for {what}\n{queue}")
            time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
