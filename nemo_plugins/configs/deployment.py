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
    """Assumptions of `recipes/plan.py`."""

    gpu: str = "h100"  # a file of conf/device/: what trains
    gpus: int | None = None  # default: platform.devices x platform.nodes
    mfu: float = 0.4  # model FLOPs utilisation; own choice: what dense 7 B models reach on H100 with Megatron
    device: str = "rtx4090"  # a file of conf/device/: what serves
    format: Format = Format.bf16
    context: int = 8192  # tokens of one stream


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
