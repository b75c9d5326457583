"""How weights are stored and served. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING


class Format(StrEnum):
    """How weights are stored for deployment; the GGUF kinds are llama.cpp's."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp8 = "fp8"
    nvfp4 = "nvfp4"
    q8_0 = "q8_0"
    q6_k = "q6_k"
    q5_k_m = "q5_k_m"
    q4_k_m = "q4_k_m"


@dataclass
class PlanConfig:
    """Assumptions of plans for GPUs."""

    gpu: str = "${platform.gpu}"  # a file of conf/device/: what trains
    commands: bool = False  # of a chain: each stage's, too
    gpus: int | None = None  # default: platform.devices x platform.nodes
    usd_an_hour: float | None = None  # of one GPU; default: what the device's file says
    mfu: float = 0.4  # model FLOPs utilisation; own choice: what dense 7 B models reach on H100 with Megatron
    device: str = "rtx4090"  # a file of conf/device/: what serves
    format: Format = Format.bf16
    context: int = 8192  # tokens of one stream
    storage_gb_s: float = 10.0  # what all nodes together write to the shared file system; own choice
    # GPU-hours between failures that stop a job: Llama 3 405B's 419 unexpected interruptions (of 466) in 54 days on 16,384 H100
    # (arXiv 2407.21783, section 3.3.4, table 5). Lower where the cluster kills without warning.
    gpu_hours_between_failures: float = 54 * 24 * 16_384 / 419


class Target(StrEnum):
    """What `recipes/quantize.py` makes: GGUF files for llama.cpp, and folders that vLLM loads."""

    f32 = "f32"
    f16 = "f16"
    q8_0 = "q8_0"
    q6_k = "q6_k"
    q5_k_m = "q5_k_m"
    q4_k_m = "q4_k_m"
    fp8 = "fp8"  # weights a channel, activations a token while it runs (compressed-tensors)
    fp8_static = "fp8_static"  # activations by calibration (ModelOpt, on a GPU)
    nvfp4 = "nvfp4"  # ModelOpt, on a GPU


@dataclass
class ImatrixConfig:
    """Importance matrix of the GGUF formats below Q8_0: mean square of what each column of a weight multiplies, on text."""

    data: list[str] = field(default_factory=list)
    windows: int = MISSING  # 0: none
    seq_length: int = MISSING


@dataclass
class VerifyConfig:
    """What every format is held against after writing: the folder that it was made from."""

    data: list[str] = field(default_factory=list)
    windows: int = MISSING  # of held-out text, for KL, top-1 agreement and perplexity; 0: the weights alone
    seq_length: int = MISSING
    strings: int = 1000  # that both tokenizers must cut alike
    prompts: int = 8  # answered greedily by both
    new_tokens: int = 32  # of an answer
    max_kl: float = 0.5  # nats a token above which a format is thrown away


@dataclass
class ExportConfig:
    """A Hugging Face folder in other formats."""

    source: str | None = None  # Hugging Face folder; default: the run's aligned-export, else its convert-export
    formats: list[Target] = field(default_factory=list)
    name: str | None = None  # of the files; default: the run's, with - for /
    pad_vocabulary: bool = False  # rows of the embedding beyond the tokenizer's tokens are called [PADn]
    imatrix: ImatrixConfig = field(default_factory=ImatrixConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    device: str = "cpu"  # cpu | cuda: where transformers runs the importance matrix and the reference


class Backend(StrEnum):
    """What runs a model."""

    transformers = "transformers"
    llama_cpp = "llama_cpp"
    endpoint = "endpoint"  # an OpenAI-compatible server: vLLM, llama.cpp's


@dataclass
class ServerConfig:
    """An OpenAI-compatible server; its key, where it wants one, comes from OPENAI_API_KEY."""

    url: str | None = None  # up to /v1
    model: str = "default"  # its name there


@dataclass
class BenchConfig:
    """Teacher against student on the same prompts; or the speed of a training."""

    backends: list[Backend] = field(default_factory=list)
    formats: list[Target] = field(default_factory=list)  # of llama_cpp: the GGUF files that quantize left
    teacher: str | None = None  # Hugging Face folder of transformers; default: model.path
    student: str | None = None  # default: the run's aligned-export, else its convert-export
    teacher_gguf: str | None = None  # folder of GGUF files; default: the run's teacher-quantize
    student_gguf: str | None = None  # default: the run's quantize
    teacher_server: ServerConfig = field(default_factory=ServerConfig)
    student_server: ServerConfig = field(default_factory=ServerConfig)
    prompt_tokens: int = MISSING
    new_tokens: int = MISSING
    concurrency: list[int] = field(default_factory=lambda: [1])  # sequences side by side
    warmup: int = 1  # of a training: steps that do not count
    repetitions: int = 5  # and those that do
    training: str | None = None  # a stage of which a few steps are timed in place of decoding: pretrain, distill, sft, dpo
    shapes: list[str] = field(default_factory=list)  # models of conf/model: random weights of their sizes instead of files
    layers: int = 5  # of the first shape that are built, and as large a share of the others'
    device: str | None = None  # a file of conf/device/, for the bound in tokens a second


class ChatSource(StrEnum):
    """What dialogues are written with, in training and in the terminal."""

    own = "own"  # the tokenizer's chat template
    chatml = "chatml"  # ChatML, and its special tokens where the tokenizer lacks them


@dataclass
class ChatConfig:
    """Dialogues: how they are written, and one in the terminal."""

    template: ChatSource = ChatSource.own
    model: str | None = None  # run folder, Hugging Face folder or GGUF file; default: the run's latest
    compare: str | None = None  # answers beside it with /compare; default: the teacher
    system: str | None = None  # default: the language's; "": none
    new_tokens: int = 256
    temperature: float = 0.7  # 0: the likeliest token
    top_p: float = 0.95
    context: int | None = None  # tokens; default: the model's, at most 8192
    host: str = "127.0.0.1"  # of the server: this machine alone
    port: int = 8080
    parallel: int = 2  # dialogues that the server answers side by side


@dataclass
class PublishConfig:
    """A folder ready for a hub."""

    repository: str | None = None  # owner/name
    push: bool = False  # with the token in HF_TOKEN; false: the folder is made and nothing is sent
    private: bool = True
    licence: str | None = None  # SPDX name as the hub spells it, e.g. apache-2.0
    base_model: str | None = None  # hub id of the model that this one was made from; default: model.path where it is one
    formats: list[Target] = field(default_factory=list)  # of quantize, beside the weights
    title: str | None = None
