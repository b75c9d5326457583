"""What every training stage shares, training on text, and distillation. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING

from nemo_plugins.configs.model import SizesConfig
from nemo_plugins.configs.run import PathConfig


class Divergence(StrEnum):
    """What the student loses against its teacher, by the names of `LOSSES` in nemo_plugins/distillation/losses.py."""

    forward_kl = "forward_kl"  # KL(teacher || student)
    reverse_kl = "reverse_kl"  # KL(student || teacher)
    jsd = "jsd"  # Jensen-Shannon, half and half
    skewed_kl = "skewed_kl"  # KL(teacher || skew * teacher + (1 - skew) * student)


class TeacherMode(StrEnum):
    """Where a distillation has its teacher's logits from."""

    live = "live"  # the teacher runs beside the student
    record = "record"  # the teacher runs alone and its top-k, or draws from it, go to files; nothing is trained
    cached = "cached"  # from these files


class BadStep(StrEnum):
    """What becomes of a step whose loss or gradient is not finite, or whose loss is a spike."""

    stop = "stop"
    skip = "skip"


@dataclass
class TeacherConfig(PathConfig):
    mode: TeacherMode = TeacherMode.live
    record: str | None = None  # folder of a recorded teacher; default: the run's `teacher-record` stage


@dataclass
class TrainConfig:
    """What every training stage shares."""

    data: list[str] = field(default_factory=list)
    max_steps: int = MISSING
    seq_length: int = MISSING
    micro_batch_size: int = MISSING
    global_batch_size: int = MISSING
    lr: float = MISSING
    min_lr: float = MISSING
    warmup_steps: int = MISSING
    weight_decay: float = 0.1
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    clip_grad: float = 1.0
    log_every: int = 1  # steps
    checkpoint_every: int = MISSING
    checkpoint_minutes: float | None = 30.0  # also when so long has passed since the last; null: by steps alone
    keep_checkpoints: int = 2  # the newest ones
    keep_best: bool = True  # besides them the one with the lowest held-out loss
    stop_minutes: float = 5.0  # before the end of the Slurm job: checkpoint, then stop to be resumed
    validate_every: int = MISSING
    bad_step: BadStep = BadStep.stop
    spike: float | None = None  # a loss above so many times the median of the last 64 steps is a spike; null: none is


@dataclass
class LossConfig:
    """alpha * divergence(temperature) * temperature^2 + (1 - alpha) * cross-entropy. The defaults are the paper's."""

    kind: Divergence = Divergence.forward_kl
    temperature: float = 1.0
    top_k: int | None = None  # of the teacher's vocabulary; all other tokens are one more outcome. null: every token its own
    # of a recorded teacher in the place of top_k: tokens drawn from its distribution at each position, so that the gradient is
    # forward KL's over the whole vocabulary on average (arXiv 2503.16870)
    draws: int | None = None
    alpha: float = 1.0
    skew: float = 0.1  # the teacher's share of the mixture, skewed_kl only (arXiv 2402.03898's alpha)


@dataclass
class DistillConfig(TrainConfig):
    loss: LossConfig = field(default_factory=LossConfig)
    prompts: list[str] = field(default_factory=list)  # beginnings to go on with; otherwise as of sft
    chats: list[str] = field(default_factory=list)  # dialogues as of sft.data, of which the answers' tokens alone count
    chats_heldout: list[str] = field(default_factory=list)  # measured beside the held-out text: val_loss_chats, val_kl_chats
    chat_share: float | None = None  # of a step's windows that are dialogues; with chats half of them, own choice


@dataclass
class PretrainConfig(TrainConfig):
    sizes: SizesConfig = field(default_factory=SizesConfig)  # train another size than the model's own, e.g. the student's
    from_teacher: bool = False  # go on from the teacher's weights: teacher correction (arXiv 2408.11796)


class Start(StrEnum):
    """What the embeddings of a vocabulary that a model was not trained with start from (nemo_plugins/models/vocabulary)."""

    focus = "focus"  # sparse mixtures of tokens that are used and written alike
    mean = "mean"  # of the old embeddings
    random = "random"  # with their mean and standard deviation


@dataclass
class VocabularyConfig:
    """How `convert.tokenizer` is put in place of a model's own."""

    start: Start = Start.focus  # of the tokens that the model does not have; those that it has keep their embeddings
    text: list[str] = field(default_factory=list)  # in which `focus` sees how tokens are used; default: data.train
    heldout: list[str] = field(default_factory=list)  # on which tokens a word are counted; default: data.heldout
    megabytes: float = 64.0  # of either, from its start; own choice: some ten million tokens, a few minutes
    multiple: int = 128  # rows of the embeddings are padded to; own choice: what tensor parallelism and GEMMs like, as Bielik's
    rows: int | None = None  # that they must come to, where later stages of a chain count on it


@dataclass
class ConvertConfig:
    tokenizer: str | None = None  # folder of a tokenizer: Hugging Face to Hugging Face, with it in place of the model's own
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    source: str | None = None  # default: the run's newest checkpoint for `hf`, else model.path
    # of `nemo`: seeded random weights of the model's shapes in place of trained ones, to measure a machine with
    random: bool | None = None
    to: str = "nemo"  # nemo | hf
    dtype: str | None = None  # of what is written: bf16 | fp16 | fp32; default: the teacher's, as its config.json says
