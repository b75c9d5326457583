"""A teacher, the sizes of a student, and where they run. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import MISSING

from nemo_plugins.models.families import FAMILIES

Family = StrEnum("Family", list(FAMILIES), module=__name__)  # type: ignore[misc]  # its members are not known before it runs


@dataclass
class SizesConfig:
    """Sizes of a student; None keeps the teacher's."""

    num_layers: int | None = None
    ffn_hidden_size: int | None = None
    hidden_size: int | None = None
    num_attention_heads: int | None = None
    num_query_groups: int | None = None


@dataclass
class RecommendedConfig:
    """What a model's file recommends: the student, and training sizes that suit its scale."""

    student: SizesConfig = field(default_factory=SizesConfig)
    seq_length: int = 8192
    micro_batch_size: int = 1
    global_batch_size: int = 768
    max_steps: int = 8000
    lr: float = 1.5e-4
    min_lr: float = 1.5e-5
    warmup_steps: int = 100
    checkpoint_every: int = 200  # steps
    validate_every: int = 200  # steps
    heldout_samples: int = 1024
    calibration_samples: int = 1024
    calibration_seq_length: int = 4096
    train_data: list[str] = field(default_factory=list)
    heldout_data: list[str] = field(default_factory=list)
    sft_seq_length: int = 32768  # the paper's
    sft_data: list[str] = field(default_factory=list)
    sft_heldout: list[str] = field(default_factory=list)
    dpo_seq_length: int = 8192  # own choice
    dpo_data: list[str] = field(default_factory=list)
    dpo_heldout: list[str] = field(default_factory=list)
    grpo_seq_length: int = 4096  # own choice
    grpo_data: list[str] = field(default_factory=list)
    grpo_heldout: list[str] = field(default_factory=list)


@dataclass
class ModelConfig:
    """A teacher: its architecture under Megatron's names, where its weights are, and what is recommended for it."""

    name: str = MISSING
    family: Family = Family("mistral")
    source: str = MISSING  # where the numbers come from
    path: str | None = None  # local Hugging Face folder or hub id of the weights
    num_layers: int = MISSING
    hidden_size: int = MISSING
    ffn_hidden_size: int = MISSING
    num_attention_heads: int = MISSING
    num_query_groups: int = MISSING
    head_dim: int = MISSING
    vocab_size: int = MISSING
    context_length: int = MISSING
    tied_embeddings: bool = False
    rope_base: float = 10000.0
    # Hugging Face's dictionary, Llama 3.1's only, which `prepare` checks. Any, for omegaconf 2.3 cannot merge a dictionary into
    # one that is null
    rope_scaling: Any = None
    sliding_window: int | None = None
    norm_eps: float = 1e-5
    init_std: float = 0.02
    recommended: RecommendedConfig = field(default_factory=RecommendedConfig)
