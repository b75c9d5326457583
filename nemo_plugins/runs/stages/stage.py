"""What is known of a stage before any of its code is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from nemo_plugins.configs.schema import Recipe
    from nemo_plugins.planning.plan import Plan

NEMO = ("torch", "nemo-toolkit", "megatron-core")
PRUNING = (*NEMO, "nvidia-modelopt")
CORRECTED = "teacher-correction"  # folder of the teacher that was trained on the distillation's text first


@dataclass(frozen=True)
class Student:
    """The student that a stage leaves.

    Attributes:
        name: of the model in evaluations.
        label: the same in tables and pictures (default: the name).
        done: what the stage has done to it, as a model card says it.
        tags: of a model card, as hubs are searched.
    """

    name: str
    done: str
    label: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class SlurmJob:
    """A Slurm job: the header of `slurm/<stage>.sh`, which `python -m nemo_plugins.runs.stages.slurm` writes.

    Attributes:
        purpose: first line of the file.
        example: overrides that fit the header.
        defaults: overrides of every job, as words of bash; the user's come before them.
        memory: of a node; None: the whole node.
        array: elements of a job array.
    """

    purpose: str
    example: str
    defaults: str
    nodes: int = 1
    tasks: int = 1
    gpus: int = 0
    cpus: int = 16
    memory: str | None = "120G"
    hours: int = 4
    array: str = ""


ONE_PROCESS = "(platform.nodes=1 platform.devices=1 platform.tensor_parallel=1)"
THE_JOBS = '("platform.nodes=$SLURM_JOB_NUM_NODES" "platform.devices=$SLURM_NTASKS_PER_NODE")'  # what the header asks for
WHOLE_NODES: dict[str, Any] = {"defaults": THE_JOBS, "nodes": 2, "tasks": 8, "gpus": 8, "cpus": 8, "memory": None, "hours": 24}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A recipe, and what help, chains, reports, the doctor and clusters know of it.

    Attributes:
        name: of the recipe, `recipes/<name>.py`, which runs it.
        plan: "module:function" that validates a configuration and says what it would do; raises UserError.
        section: of the configuration where it is not `name`; "": it has none of its own.
        reads: dotted sections whose values decide what comes out; another value of one is another run.
        reads_besides: "module:function" that names more of them for a configuration.
        folder: "module:function" that names the stage's folder where it is not `name`; `run.stage` comes before both.
        processes: `workers`, as many as `platform` says; `one`; `own`, this one, and `platform` is what it reckons with.
        resumable: whether a stage that is stopped goes on where it was: exit code 75.
        writes: false for a recipe that only shows something: it has no folder, and any process may run it any time.
        runs_others: it is a chain: its folder is the run's own, without configuration and summary.
        in_chain: whether a chain may have it as a stage.
        optional: later stages that miss a student do not name it as the one to run first.
        default_model: taken where the command line names none: the recipe is hardly about one.
        default_experiment: taken where the command line names none.
        checkpoints: folders below the run in which it leaves a NeMo checkpoint (default: `name`, where it leaves a student).
        student: that it leaves.
        formats: whether it leaves models in other formats, Hugging Face folders or `.gguf` files.
        packages: as the lock names them, without which it cannot start.
        warm: without NeMo itself it imports half of what NeMo does: a chain forks it, too.
        on_cpu: it uses no GPU where there are some.
        metrics: of the summary, shown when a chain ends.
        settings: keys of the section that a report shows.
        data: key of the section with the files that it learns from.
        seconds: in the laptop's chain on 2 cores, a first guess of its progress.
        job: on a cluster.
        keys, examples: of its help.
    """

    name: str
    plan: str
    section: str | None = None
    reads: tuple[str, ...] = ()
    reads_besides: str = ""
    folder: str = ""
    processes: Literal["workers", "one", "own"] = "workers"
    resumable: bool = False
    writes: bool = True
    runs_others: bool = False
    in_chain: bool = False
    optional: bool = False
    default_model: str | None = None
    default_experiment: str | None = None
    checkpoints: tuple[str, ...] = ()
    student: Student | None = None
    formats: bool = False
    packages: tuple[str, ...] = ()
    warm: bool = False
    on_cpu: bool = False
    metrics: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    data: str = ""
    seconds: int = 30
    job: SlurmJob | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    @property
    def of_config(self) -> str:
        """Its section of the configuration."""
        return self.name if self.section is None else self.section

    @property
    def left_in(self) -> tuple[str, ...]:
        """Folders below the run with the checkpoints that it leaves."""
        return self.checkpoints or ((self.name,) if self.student else ())

    @property
    def uses_nemo(self) -> bool:
        """Whether it imports NeMo itself."""
        return "nemo-toolkit" in self.packages

    @property
    def trains(self) -> bool:
        """Whether it trains a model with NeMo, on as many processes as `platform` says."""
        return self.uses_nemo and self.processes == "workers"

    def defaults(self, arguments: Sequence[str]) -> list[str]:
        """Overrides for what a command line does not choose."""
        chosen = {word.lstrip("+~").partition("=")[0] for word in arguments}
        words = {"model": f"+model={self.default_model}", "experiment": f"experiment={self.default_experiment}"}
        return [words[key] for key in words if getattr(self, f"default_{key}") and key not in chosen]

    def planned(self, cfg: Recipe) -> Plan:
        """Validate a configuration. Raises UserError naming the key."""
        return resolve_name(self.plan)(cfg)

    def reads_of(self, cfg: Recipe) -> tuple[str, ...]:
        """Sections whose values decide what comes out of a configuration."""
        return (*self.reads, *(resolve_name(self.reads_besides)(cfg) if self.reads_besides else ()))

    def folder_of(self, cfg: Recipe) -> str | None:
        """The folder below the run; None: the run's own."""
        if self.runs_others:
            return None
        return cfg.run.stage or (resolve_name(self.folder)(cfg) if self.folder else self.name)
