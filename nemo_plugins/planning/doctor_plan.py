"""What a machine's facts mean: what is missing for the platform asked for, with the remedy, and which stages can run."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass
from typing import Any, Literal

from nemo_plugins.configs.schema import Kind, Recipe
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, Table, gib
from nemo_plugins.runs import paths
from nemo_plugins.runs.stages import Stage, by_name

Facts = dict[str, Any]
State = Literal["ok", "note", "lacks", "-"]
GIB = 1 << 30
LEAST_FREE = GIB  # of the runs' folder; what a stage will write its own plan says
LEAST_SHARED = GIB  # of /dev/shm; own choice: docker's 64 MiB are too little for NCCL, half of a node's memory is usual
LEAST_MEMORY = 8 * GIB  # what README.md asks for the laptop's chain
IMAGE = "the image has it: docs/containers.md"
SETUP = "./minitron setup, or an image of the same requirements.lock"


@dataclass(frozen=True)
class Finding:
    """One line: `ok`; `note`, worth knowing; `lacks`, without which the platform cannot be used; `-`, not needed on it."""

    what: str
    found: str
    state: State
    remedy: str = ""


@dataclass(frozen=True)
class Verdict:
    """All findings, and (stage, yes or no, what it runs on, what to know) for each stage."""

    platform: Literal["cpu", "gpu"]
    findings: list[Finding]
    stages: list[tuple[str, str, str, str]]

    @property
    def lacks(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.state == "lacks"]


def plan(cfg: Recipe) -> Plan:
    """Validate what is asked; `judge` does the work. Raises UserError naming the key."""
    at_least(1, cfg.platform, "platform", "devices")
    rows = [
        ("looks at", "Python and the locked packages, GPUs and their driver, memory, disks, Slurm, containers, tokens"),
        ("judges for", f"platform={cfg.platform.kind.value} platform.devices={cfg.platform.devices}"),
        ("runs in", cfg.run.root),
        ("also", "imports torch, Transformer Engine and NeMo and computes on every GPU" if cfg.doctor.deep else "nothing"),
    ]
    return Plan("what this machine has and lacks", [Table("", rows, numbers=False)])


def judge(cfg: Recipe, facts: Facts) -> Verdict:
    """What `machine.facts()` means for `platform` and the model of a configuration."""
    gpus, kind = facts["gpus"], cfg.platform.kind
    on_gpu = kind is Kind.gpu or (kind is Kind.auto and bool(gpus or facts["gpu_error"]))
    findings = [
        *_python(facts),
        *(_gpus(cfg, facts) if on_gpu else [_no_gpus(facts)]),
        *_gpu_packages(facts, on_gpu),
        *_room(facts),
        _weights(cfg),
        *_surroundings(facts),
    ]
    stages = [_stage(stage, facts, on_gpu) for stage in by_name().values() if stage.packages]
    return Verdict("gpu" if on_gpu else "cpu", findings, stages)


def tables(facts: Facts, verdict: Verdict) -> Plan:
    """The tables that people read."""
    marks = {"ok": "ok", "note": "!", "lacks": "MISSING", "-": "-"}
    rows = [(finding.what, finding.found, marks[finding.state], finding.remedy) for finding in verdict.findings]
    where = f"{facts['node']}{', in ' + facts['inside'] if facts['inside'] else ''}: platform={verdict.platform}"
    return Plan(
        where,
        [
            Table("What is here", rows, ["", "found", "", "remedy"], numbers=False),
            Table("What can run", verdict.stages, ["stage", "here", "on", "to know"], numbers=False),
        ],
    )


def _python(facts: Facts) -> list[Finding]:
    from packaging.specifiers import SpecifierSet

    wants = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    fits = SpecifierSet(wants).contains(facts["python"])
    found = [
        Finding("Python", f"{facts['python']} ({facts['executable']})", "ok" if fits else "lacks", "" if fits else f"{wants}")
    ]
    needed = {package for stage in by_name().values() for package in stage.packages}
    left_out = facts["left_out"]
    gone = [name for name in facts["absent"] if name not in left_out]
    if facts["torch"] is None:
        found.append(Finding("torch", "none", "lacks", SETUP))
    else:
        build = f"CUDA {facts['torch_cuda']}" if facts["torch_cuda"] else "for CPUs"
        found.append(Finding("torch", f"{facts['torch']} ({build})", "ok"))
    same = facts["locked"] - len(facts["differ"]) - len(facts["absent"])
    found.append(Finding("locked packages", f"{same} of {facts['locked']} as requirements.lock has them", "ok"))
    differ: list[tuple[str, list[str], State]] = [
        ("not installed", [name for name in gone if name in needed], "lacks"),
        ("not installed", [name for name in gone if name not in needed], "note"),
        ("another version", [f"{name} {here} ({lock})" for name, (lock, here) in facts["differ"].items()], "note"),
    ]
    for what, names, state in differ:
        if names:
            found.append(Finding(what, _some(names), state, SETUP))
    for extra in sorted({name for names in left_out.values() for name in names.split()} - {"dev"}):
        found.append(Finding(f"extra {extra}", "not set up", "-", f"./minitron setup {extra}"))
    return found


def _no_gpus(facts: Facts) -> Finding:
    if facts["gpus"]:
        return Finding("GPUs", f"{len(facts['gpus'])} x {facts['gpus'][0]['name']}, not asked for", "-", "platform=gpu")
    return Finding("GPUs", "none", "-")


def _gpus(cfg: Recipe, facts: Facts) -> list[Finding]:
    if facts["gpu_error"]:
        remedy = "nvidia-smi on this node; in a container: its GPU option (docker --gpus all, apptainer --nv)"
        return [Finding("GPUs", facts["gpu_error"], "lacks", f"{remedy}; platform=cpu runs without")]
    gpus, asked = facts["gpus"], cfg.platform.devices
    names = ", ".join(dict.fromkeys(f"{gpu['name']}, {gib(gpu['memory_bytes'])}" for gpu in gpus))
    count = f"{len(gpus)} x {names}" if gpus else "none"
    if len(gpus) < asked:
        remedy = f"platform.devices={asked} wants {asked}: a job with --gpus-per-node={asked}, CUDA_VISIBLE_DEVICES"
        return [Finding("GPUs", count, "lacks", remedy if gpus else f"{remedy}; platform=cpu runs without")]
    found = [Finding("GPUs", count, "ok")]
    found += [_driver(facts)]
    sick = [f"GPU {gpu['index']} ({gpu['uuid']}): {fault}" for gpu in gpus for fault in gpu["faults"]]
    found += [
        Finding("GPU health", one, "lacks", "leave this node out: sbatch --exclude; tell its administrator") for one in sick
    ]
    notes = [f"GPU {gpu['index']}: {note}" for gpu in gpus for note in gpu["notes"]]
    found += [Finding("GPU health", one, "note", "nvidia-smi shows whose") for one in notes]
    if facts["xids"]:
        text = ", ".join(f"Xid {number} ({times} times)" for number, times in facts["xids"].items())
        found.append(Finding("GPU health", f"{text} in the kernel's log", "note", "dmesg | grep Xid: which GPU, and when"))
    if not sick:
        unread = "" if facts["xids"] is not None else "; the kernel's log cannot be read"
        found.append(Finding("GPU health", f"no uncorrectable errors, nothing pending{unread}", "ok"))
    return found


def _driver(facts: Facts) -> Finding:
    """A driver runs what is built for its CUDA's major version or an older one, newer with NVIDIA's compat libraries."""
    speaks, built = facts["cuda"], facts["torch_cuda"]
    text = f"{facts['driver']}, CUDA up to {speaks}"
    if facts["torch"] is not None and built is None:
        return Finding("driver", f"{text}; torch is built for CPUs", "lacks", f"a CUDA build of torch: {IMAGE}")
    numbers = [version.split(".")[0] for version in (speaks or "", built or "")]
    if all(number.isdigit() for number in numbers) and int(numbers[0]) < int(numbers[1]):
        state: State = "note" if facts["cuda_compat"] else "lacks"
        remedy = "the container's CUDA compat libraries bridge it on data-centre GPUs; else a newer driver"
        return Finding("driver", f"{text}; torch is built for {built}", state, remedy)
    return Finding("driver", text, "ok")


def _transformer_engine(facts: Facts, on_gpu: bool) -> Finding:
    """Older than megatron-core names it is used all the same, call by call, and fails in the middle of one."""
    from packaging.specifiers import SpecifierSet

    what, here, wants = "Transformer Engine", facts["transformer_engine"], facts["transformer_engine_range"]
    if not on_gpu:
        return Finding(what, here or "none", "ok" if here else "-")
    if not here:
        return Finding(what, "none", "note", f"sft.packing=thd and context_parallel need it, all is slower; {IMAGE}")
    bounds = list(SpecifierSet(wants or ""))
    if not all(bound.contains(here, prereleases=True) for bound in bounds if bound.operator.startswith(">")):
        remedy = f"a version of {wants}, or none: the extra gpu of pyproject.toml (docs/clusters.md), pip uninstall"
        return Finding(what, f"{here}, megatron-core wants {wants}", "lacks", remedy)
    if not all(bound.contains(here, prereleases=True) for bound in bounds):
        return Finding(what, here, "note", f"megatron-core names {wants}")
    return Finding(what, here, "ok")


def _gpu_packages(facts: Facts, on_gpu: bool) -> list[Finding]:
    found = [_transformer_engine(facts, on_gpu)]
    apex = facts["apex"]
    without = f"optional: fused optimizer and norms where Transformer Engine has none; {IMAGE}"
    state: State = "ok" if apex else "note" if on_gpu else "-"
    found.append(Finding("Apex", apex or "none", state, "" if apex or not on_gpu else without))
    fused = facts["gradient_fusion"]
    found.append(
        Finding(
            "gradient accumulation",
            "fused by Apex" if fused else "not fused: Apex has no fused_weight_gradient_mlp_cuda",
            "ok" if fused else "note" if on_gpu else "-",
            "" if fused or not on_gpu else f"optional: NeMo then sums each micro-batch's gradient by itself; {IMAGE}",
        )
    )
    here = facts["nccl"]
    remedy = "" if here or not on_gpu else f"several GPUs need it; {IMAGE}"
    return [*found, Finding("NCCL", here or "none", "ok" if here else "note" if on_gpu else "-", remedy)]


def _room(facts: Facts) -> list[Finding]:
    total, free, root, cache = (facts[key] for key in ("memory_bytes", "memory_free_bytes", "root", "hf_cache"))
    small = total is not None and total < LEAST_MEMORY
    found = [
        Finding("CPU cores", str(facts["cores"]), "ok"),
        Finding(
            "memory", f"{gib(total)}, {gib(free)} free" if total and free is not None else "unknown",
            "note" if small else "ok", "the laptop's chain wants 8 GiB" if small else "",
        ),
        Finding(
            "shared memory", f"{gib(facts['shm_bytes'])} free in /dev/shm",
            "note" if facts["shm_bytes"] < LEAST_SHARED else "ok",
            "docker run --ipc=host (or --shm-size=16g)" if facts["shm_bytes"] < LEAST_SHARED else "",
        ),
    ]  # fmt: skip
    if root["problem"]:
        found.append(
            Finding("run.root", f"{root['path']}: {root['problem']}", "lacks", "another run.root, or the right to write")
        )
    elif root["free_bytes"] < LEAST_FREE:
        found.append(
            Finding("run.root", f"{root['path']}: {gib(root['free_bytes'])} free", "lacks", "make room, or another run.root")
        )
    else:
        found.append(Finding("run.root", f"{root['path']}: can be written to, {gib(root['free_bytes'])} free", "ok"))
    text = cache["problem"] or f"{gib(cache['free_bytes'])} free"
    found.append(
        Finding(
            "Hugging Face cache", f"{cache['path']}: {text}", "note" if cache["problem"] else "ok",
            "HF_HOME names another; model.path may be a folder" if cache["problem"] else "",
        )
    )  # fmt: skip
    return found


def _weights(cfg: Recipe) -> Finding:
    path = cfg.model.path
    if not path or paths.local_weights(path):
        return Finding(f"weights of {cfg.model.name}", path or "none are named", "ok" if path else "note")
    remedy = shlex.join(["huggingface-cli", "download", path]) if paths.is_hub_id(path) else "model.path=<folder>"
    return Finding(f"weights of {cfg.model.name}", f"{path} is not here", "note", remedy)


def _surroundings(facts: Facts) -> list[Finding]:
    token = "in HF_TOKEN or the cache" if facts["hf_token"] else "none"
    return [
        Finding(
            "Hugging Face token",
            token,
            "ok" if facts["hf_token"] else "-",
            "" if facts["hf_token"] else "only for gated models and publish",
        ),
        Finding("Slurm", ", ".join(facts["slurm"]) or "none", "ok" if facts["slurm"] else "-"),
        Finding("containers", ", ".join(facts["containers"]) or "none", "ok" if facts["containers"] else "-"),
        Finding(
            "browser",
            "here" if facts["browser"] else "none",
            "ok" if facts["browser"] else "-",
            "" if facts["browser"] else "only to print a report: apt-get install chromium",
        ),
    ]


def _stage(stage: Stage, facts: Facts, on_gpu: bool) -> tuple[str, str, str, str]:
    name, needs = stage.name, stage.packages
    gone = [package for package in needs if package in facts["absent"] or (package == "torch" and not facts["torch"])]
    if gone:
        return name, "no", "-", f"not installed: {', '.join(gone)}"
    if other := [package for package in needs if package in facts["elsewhere"]]:
        return name, "no", "-", f"not locked for this machine: {', '.join(other)}"
    fit = [gpu for gpu in facts["gpus"] if not gpu["faults"]]
    if not on_gpu or stage.on_cpu:
        return name, "yes", f"CPU, {facts['cores']} cores", _note(stage, facts, on_gpu)
    if not fit or facts["gpu_error"] or not facts["torch_cuda"]:
        return name, "no", "-", "no GPU that can be used; platform=cpu runs without"
    return name, "yes", f"{len(fit)} x {fit[0]['name']}", _note(stage, facts, on_gpu)


def _note(stage: Stage, facts: Facts, on_gpu: bool) -> str:
    name = stage.name
    notes = [
        f"{package} {facts['differ'][package][1]}, locked {facts['differ'][package][0]}"
        for package in stage.packages
        if package in facts["differ"]
    ]
    if name == "sft" and not (on_gpu and facts["transformer_engine"]):
        notes.append("no sft.packing=thd: it wants Transformer Engine")
    if name == "quantize" and not facts["gpus"]:
        notes.append("not nvfp4 and fp8_static: they want a GPU")
    if name == "eval" and facts["vllm"]:
        notes.append(f"eval.backend=vllm: {facts['vllm']}")
    if stage.uses_nemo and not on_gpu:
        notes.append("small models")
    return "; ".join(notes)


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
