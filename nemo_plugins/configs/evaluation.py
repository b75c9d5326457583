"""Evaluation suites and the report. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING


class Origin(StrEnum):
    """Whose definition of a task it is."""

    ours = "ours"  # nemo_plugins/evaluation/tasks
    ours_from_hub = "ours_from_hub"  # there, too, on a data set of the Hugging Face hub
    upstream = "upstream"  # lm-eval's own
    task_path = "task_path"  # of the folder that eval.task_path names


class EvalBackend(StrEnum):
    """What runs the evaluated model."""

    hf = "hf"  # transformers
    vllm = "vllm"
    endpoint = "endpoint"  # an OpenAI-compatible server of completions


class Form(StrEnum):
    """How a task is answered."""

    choice = "choice"  # the likeliest of given options
    free = "free"  # written, and read by a pattern
    text = "text"  # a text's likelihood


class Lacking(StrEnum):
    """What becomes of an evaluation where a task or a model cannot be run."""

    stop = "stop"  # all else is done and kept, then it ends with exit code 1
    skip = "skip"  # it is finished without, and says so


@dataclass
class TaskConfig:
    """A task of a suite."""

    metric: str = MISSING  # lm-eval's, with its filter: acc,none
    baseline: float | None = None  # score of guessing; null: it is not normalised
    average: bool = True  # counts in the suite's average, where it has a baseline
    form: Form = Form.choice
    origin: Origin = Origin.ours
    folder: str = ""  # where it is defined, below the folder of its origin
    num_fewshot: int | None = None  # default: eval.num_fewshot
    items: str | None = None  # what tasks with the same items in the same order share: they are resampled together


@dataclass
class EvalEndpointConfig:
    """Server of eval.backend=endpoint; the key, where it wants one, comes from OPENAI_API_KEY."""

    url: str | None = None  # of completions, e.g. http://node7:8000/v1/completions
    model: str = "model"  # its name there
    requests: int = 8  # at a time


@dataclass
class EvalConfig:
    """A suite (`conf/eval/<suite>.yaml`), and how it is run."""

    suite: str = MISSING
    title: str = ""
    source: str = ""  # where tasks, baselines and settings come from
    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    only: list[str] = field(default_factory=list)  # just these of them
    num_fewshot: int | None = None  # null: the tasks' own
    chat_template: bool = False
    fewshot_as_multiturn: bool = True  # with a chat template: each example a turn
    limit: int | None = None  # items of each task; null: all
    task_path: str | None = None  # folder of task definitions
    task_source: str = ""  # how to get that folder
    heldout_text: list[str] = field(default_factory=list)  # of heldout_bits_per_byte; default: the bundled text
    models: dict[str, str] = field(default_factory=dict)  # name → folder; default: the teacher and what the run's stages left
    teacher: str = "teacher"  # name of the model that recovery is measured against
    backend: EvalBackend = EvalBackend.hf
    endpoint: EvalEndpointConfig = field(default_factory=EvalEndpointConfig)
    dtype: str | None = None  # default: float32 on a CPU, the weights' own on a GPU
    batch_size: int | None = None  # default: found
    max_length: int | None = None  # tokens; default: the model's
    resamples: int = 1000  # of the bootstrap
    confidence: float = 0.95
    missing: Lacking = Lacking.stop


@dataclass
class ReportConfig:
    """The report of a run."""

    results: list[str] = field(default_factory=list)  # of judges and tool calling: .json or .csv, see docs/evaluating.md
    generations: int = 6  # questions whose answers are shown side by side
    card: bool = True  # the model card also goes into the exported folder
