"""What a distilled student costs to make and to serve: arithmetic, hours, memory, disk, fit and speed, from sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from types import MappingProxyType

from nemo_plugins.configs.schema import DistillConfig, Format, PlatformConfig, Recipe
from nemo_plugins.data import tokens
from nemo_plugins.models.architecture import SIZES, Architecture
from nemo_plugins.planning import checks, decode, devices, formats, memory, text_size, training_plan
from nemo_plugins.planning.devices import Device
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.runs.errors import UserError

SEQ_LENGTHS = (2048, 4096, 8192)  # that the paper may have used, which does not say
MFUS = (0.3, 0.4, 0.5)  # the range that dense models of this size reach on H100 and H200; own choice
TRAINING_PASSES = 3  # a training step's arithmetic in forward passes: the backward pass takes two


@dataclass(frozen=True)
class Paper:
    """What Bielik-Minitron-7B states of itself (arXiv 2603.11881). The sequence length it does not state."""

    teacher: Architecture = Architecture(50, 4096, 14336, 32, 8, 128, 32128)
    student: Architecture = Architecture(40, 4096, 11264, 32, 8, 128, 32128)
    steps: int = 8000
    samples: int = 8_000_000
    gpu: str = "h200"
    gpus: int = 16
    hours: tuple[float, float] = (48, 72)  # of distillation, a candidate
    device: str = "rtxpro6000"  # one stream, bf16
    tokens_per_second: tuple[float, float] = (54.42, 81.41)  # teacher, student
    milliseconds: tuple[float, float] = (18.28, 12.32)  # of a token
    first_token_milliseconds: tuple[float, float] = (24.64, 27.29)

    @staticmethod
    def is_same(one: Architecture, other: Architecture) -> bool:
        """Whether two models have the same sizes; context and RoPE base do not matter here."""
        return all(getattr(one, key) == getattr(other, key) for key in (*SIZES, "tied_embeddings", "gated"))


PAPER = Paper()


@dataclass(frozen=True)
class Served:
    """A model in one format on the device that serves it. Bytes; milliseconds a token, as `decode` predicts them."""

    weights: int
    cache: int
    fits: bool
    milliseconds: float

    @property
    def total(self) -> int:
        return self.weights + self.cache


@dataclass(frozen=True)
class Estimate:
    """The assumptions; what follows from them are its properties.

    Attributes:
        gpu: what trains, `gpus` of them at `mfu` of their peak.
        device: what serves, one stream of `context` tokens.
        bytes_per_value: of the working weights in training.
        text_tokens: of the training text, as far as it is here.
        sharded: whether the copies of the model share out the optimizer's state.
    """

    teacher: Architecture
    student: Architecture
    train: DistillConfig
    platform: PlatformConfig
    gpu: Device
    gpus: int
    mfu: float
    device: Device
    format: Format
    context: int
    bytes_per_value: int
    text_tokens: int | None = None
    sharded: bool = True

    @property
    def tokens(self) -> int:
        return training_plan.tokens(self.train)

    @property
    def flops(self) -> float:
        """Of the whole distillation: three forward passes of the student, one of the teacher."""
        return self.flops_per_token(self.train.seq_length) * self.tokens

    @property
    def gpu_hours(self) -> float:
        return self.flops / (self.gpu.flops_per_second * self.mfu) / 3600

    @property
    def days(self) -> float:
        return self.gpu_hours / self.gpus / 24

    @property
    def memory(self) -> memory.Memory:
        """Of one GPU in the distillation."""
        return memory.training(self.student, self.train, self.platform, self.bytes_per_value, self.teacher, self.sharded)

    @property
    def disk(self) -> dict[str, int]:
        """Bytes by what is written, of the whole chain."""
        width = self.bytes_per_value
        each = 2 if self.teacher.vocab_size < tokens.SMALL_VOCABULARY else 4  # bytes of an id
        text, stored = f"training text as tokens, {each} bytes each, read once", self.tokens
        if self.text_tokens is not None and self.text_tokens < self.tokens:
            text, stored = f"training text as tokens, {each} bytes each", self.text_tokens
        checkpoints = training_plan.files(self.train, self.student, width)
        return {
            text: stored * each,
            "teacher as NeMo checkpoint": memory.checkpoint(self.teacher, width, optimizer=False),
            "pruned student": memory.checkpoint(self.student, 2, optimizer=False),
            **{f"distillation: {name}": size for name, size in checkpoints.items()},
            "exported student": memory.checkpoint(self.student, 2, optimizer=False),
        }

    def served(self, model: Architecture, format: Format) -> Served:
        weights, cache = formats.weight_bytes(model, format), decode.cache_bytes(model, self.context)
        fits = weights + cache <= self.device.usable_bytes
        return Served(weights, cache, fits, decode.milliseconds(model, self.device, format, self.context))

    def flops_per_token(self, seq_length: int) -> int:
        return TRAINING_PASSES * self.student.flops_per_token(seq_length) + self.teacher.flops_per_token(seq_length)

    def hours(self, seq_length: int, mfu: float, gpu: Device, gpus: int, samples: int) -> float:
        """Hours of so many samples of another length, on other GPUs."""
        flops = self.flops_per_token(seq_length) * samples * seq_length
        return flops / (gpu.flops_per_second * mfu * gpus) / 3600

    def seq_length_of(self, hours: float, mfu: float, gpu: Device, gpus: int, samples: int) -> float:
        """The sequence length at which so many samples take that many hours: `hours` solved for it."""
        flops_per_sample = hours * 3600 * gpu.flops_per_second * mfu * gpus / samples
        base = self.flops_per_token(0)
        slope = self.flops_per_token(1) - base  # attention: linear in the sequence length
        return (sqrt(base**2 + 4 * slope * flops_per_sample) - base) / (2 * slope)

    def summary(self) -> Mapping[str, Mapping[str, object]]:
        """The blocks of `summary.json`, plain numbers: bytes, FLOPs, hours, milliseconds."""
        blocks: dict[str, dict[str, object]] = {}
        for name, model in (("teacher", self.teacher), ("student", self.student)):
            served = self.served(model, self.format)
            blocks[name] = {
                "parameters": model.parameters(),
                "parameters_paper": model.parameters("paper"),
                "weight_bytes": {format.value: formats.weight_bytes(model, format) for format in Format},
                "kv_cache_bytes": served.cache,
                "fits": served.fits,
                "decode_ms": served.milliseconds,
            }
        blocks["distillation"] = {
            "tokens": self.tokens,
            "flops": self.flops,
            "gpu": self.gpu.name,
            "gpus": self.gpus,
            "mfu": self.mfu,
            "gpu_hours": self.gpu_hours,
            "days": self.days,
            "memory_bytes": {**vars(self.memory), "total": self.memory.total},
            "disk_bytes": self.disk,
        }
        blocks["serving"] = {"device": self.device.name, "format": self.format.value, "context": self.context}
        return MappingProxyType(blocks)


def make(cfg: Recipe) -> Estimate:
    """The estimate of a configuration.

    Raises:
        UserError: a size, a device or an assumption that cannot be.
    """
    asked = cfg.plan
    at_least(1, asked, "plan", "gpus", "context")
    if not 0 < asked.mfu <= 1:
        raise UserError(f"plan.mfu={asked.mfu:g}: expected a share of the peak, above 0 and at most 1")
    return Estimate(
        teacher=Architecture.from_config(cfg.model),
        student=checks.student(cfg),
        train=cfg.distill,
        platform=cfg.platform,
        gpu=devices.load(asked.gpu, "plan.gpu"),
        gpus=asked.gpus or cfg.platform.devices * cfg.platform.nodes,
        mfu=asked.mfu,
        device=devices.load(asked.device, "plan.device"),
        format=asked.format,
        context=asked.context,
        bytes_per_value=checks.bytes_per_value(cfg),
        text_tokens=text_size.total(cfg, cfg.distill.data),
        sharded=checks.sharded(cfg),
    )
