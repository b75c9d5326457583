"""Alignment on chats: supervised, on preferences, on rewards. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import MISSING

from nemo_plugins.configs.training import Divergence, LossConfig, TrainConfig


class Packing(StrEnum):
    """How dialogues share a window without seeing each other."""

    auto = "auto"  # thd with Transformer Engine, mask without
    thd = "thd"  # Transformer Engine's packed sequences
    mask = "mask"  # one call of torch's attention for each dialogue; not with Transformer Engine, which ignores a mask
    none = "none"  # one dialogue a window


class Learn(StrEnum):
    """Which of the assistant's turns are learned, end of turn included."""

    every = "every"
    last = "last"


class BadRows(StrEnum):
    """What becomes of rows that cannot be used: counted and left out, or a refusal."""

    drop = "drop"
    error = "error"


class Preference(StrEnum):
    """The loss of a preference pair (nemo_plugins/alignment/losses.py)."""

    dpop = "dpop"  # DPO-Positive
    dpo = "dpo"
    ipo = "ipo"
    simpo = "simpo"


class GroupLoss(StrEnum):
    """How completions are held against their group (nemo_plugins/alignment/losses.py)."""

    grpo = "grpo"
    dr_grpo = "dr_grpo"  # without lengths and deviations
    dapo = "dapo"  # the mean over an update's tokens
    gspo = "gspo"  # one ratio, and so one clip, for a completion
    cispo = "cispo"  # the ratio is a clipped weight, no token is left without a gradient


class Engine(StrEnum):
    """What draws a policy's completions (nemo_plugins/alignment/rollouts)."""

    megatron = "megatron"  # the training weights in place
    endpoint = "endpoint"  # an OpenAI-compatible server with an export of them


class Overlong(StrEnum):
    """What becomes of completions that were cut off."""

    keep = "keep"  # what any other does
    mask = "mask"  # they count in their group and are not learned from
    penalise = "penalise"  # their reward is less by overlong_penalty


@dataclass
class LoraConfig:
    """Low-rank adapters in the place of full fine-tuning, NeMo's own; merged into the weights when training is done."""

    dim: int | None = None  # rank; null: all weights are trained
    alpha: int = 32
    dropout: float = 0.0
    target_modules: list[str] = field(default_factory=lambda: ["linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"])


@dataclass
class AlignConfig(TrainConfig):
    """What the stages that learn from rows of chats share."""

    heldout: list[str] = field(default_factory=list)
    weight_decay: float = 0.05
    bad_rows: BadRows = BadRows.drop


@dataclass
class SftConfig(AlignConfig):
    """Supervised fine-tuning; `data` are dialogues, .jsonl[.gz|.zst] with `messages` and, where wanted, a `weight`."""

    packing: Packing = Packing.auto
    learn: Learn = Learn.every
    prompts: list[str] = field(default_factory=list)  # answered at each validation; not on pipelines or in context parallel
    lora: LoraConfig = field(default_factory=LoraConfig)
    adaptive_tokens: int | None = None  # BS of lr * sqrt(T / BS), T a step's learned tokens (arXiv 2410.18565); null: lr stays


@dataclass
class DpoConfig(AlignConfig):
    """Preference pairs; `data` are .jsonl[.gz|.zst] with `messages`, `chosen` and `rejected`, batch sizes count pairs."""

    kind: Preference = Preference.dpop
    beta: float = 0.05
    lam: float = 2.5  # of dpop, outside beta
    gamma: float = 1.0  # of simpo
    prompts: list[str] = field(default_factory=list)  # as of sft


@dataclass
class EndpointConfig:
    """An OpenAI-compatible server of completions that gives log-probabilities, of grpo.engine=endpoint."""

    url: str | None = None  # up to /v1
    model: str = "policy"  # its name there; the key, where it wants one, comes from OPENAI_API_KEY
    refresh_every: int = 1  # rollouts, after which the server gets the weights
    refresh: str | None = None  # command that gives it them, {hf} the folder, {step} the update; null: vLLM's own requests
    requests: int = 64  # at a time
    timeout: float = 600.0  # seconds of a request
    patience: float = 600.0  # seconds that a server may be away
    cap: float = 2.0  # of the importance ratio of a token between the server's weights and the trained ones


@dataclass
class GrpoConfig(AlignConfig):
    """Rewards that can be checked; `data` are .jsonl[.gz|.zst] with `messages`, `kind` and `reference`; sizes count answers."""

    kind: GroupLoss = GroupLoss.grpo
    prompts: int = MISSING  # of a rollout
    group_size: int = MISSING  # completions of each
    epochs: int = 1  # over a rollout's completions
    max_tokens: int = MISSING  # of a completion; with its prompt at most seq_length
    temperature: float = 1.0
    top_p: float = 1.0
    clip_low: float = 0.2  # of the ratio, at least 1 - clip_low; 1: no lower bound
    clip_high: float = 0.2
    kl_coef: float = 0.001
    max_log_ratio: float = 20.0  # of the ratio and the KL term, above which a token counts as this: e^20 is finite
    rewards: dict[str, dict[str, float]] = field(default_factory=dict)  # kind of prompt → reward → weight
    own_rewards: dict[str, str] = field(default_factory=dict)  # reward → path/to/file.py:function, a user's
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # reward → its arguments
    refill: int = 3  # further draws of prompts in the place of groups without signal; 0: none
    overlong: Overlong = Overlong.mask
    overlong_penalty: float = 0.5
    engine: Engine = Engine.megatron
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    rollout_batch: int = 128  # completions of a process at a time
    # mean |log p of the engine − log p of the trainer|, nats a token, with the same weights: above it warns, and where it
    # stays there (grpo_alarms.py) it stops
    max_mismatch: float = 0.02
    samples_every: int = 10  # rollouts, of which one is written down
    alarms: bool = True


@dataclass
class OpdConfig(AlignConfig):
    """On-policy distillation; `data` are dialogues as of sft, or prompts as of grpo; sizes count completions, one a prompt."""

    loss: LossConfig = field(default_factory=lambda: LossConfig(kind=Divergence.reverse_kl))
    share: float = 1.0  # of the steps that learn from the student's own completions; the others do from the data's answers
    max_tokens: int = MISSING  # of a completion; with its prompt at most seq_length
    rollout_batch: int = 128  # completions of a process at a time
