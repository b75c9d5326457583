"""The typed shape of every configuration: one dataclass a config group, one root for all recipes.

Every recipe composes the same root, so an experiment can hold the choices of a whole chain and each stage reads its own part.
Imports neither torch nor NeMo. `None` means "not asked for"; where a default is derived, the comment says from what.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import MISSING


class Family(StrEnum):
    """Which of NeMo's converters a teacher needs."""

    mistral = "mistral"
    llama = "llama"


class Kind(StrEnum):
    """What the code runs on; `auto` takes the GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Precision(StrEnum):
    """Arithmetic of training; `bf16` keeps fp32 master weights."""

    fp32 = "fp32"
    bf16 = "bf16"


class Divergence(StrEnum):
    """What the student loses against its teacher (nemo_plugins/distillation/losses.py)."""

    forward_kl = "forward_kl"  # KL(teacher || student)
    reverse_kl = "reverse_kl"  # KL(student || teacher)
    jsd = "jsd"  # Jensen-Shannon, half and half
    skewed_kl = "skewed_kl"  # KL(teacher || skew * teacher + (1 - skew) * student)


class TeacherMode(StrEnum):
    """Where a distillation has its teacher's logits from."""

    live = "live"  # the teacher runs beside the student
    record = "record"  # the teacher runs alone and its top-k goes to files; nothing is trained
    cached = "cached"  # from these files


class Packing(StrEnum):
    """How dialogues share a window without seeing each other."""

    auto = "auto"  # thd with Transformer Engine, mask without
    thd = "thd"  # Transformer Engine's packed sequences
    mask = "mask"  # a dense block-diagonal mask; not with Transformer Engine, whose causal attention ignores it
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


class BadStep(StrEnum):
    """What becomes of a step whose loss or gradient is not finite, or whose loss is a spike."""

    stop = "stop"
    skip = "skip"


class Recompute(StrEnum):
    """Which activations are computed again in the backward pass instead of kept."""

    none = "none"
    selective = "selective"  # the attention's
    full = "full"  # all but each layer's input


class Criterion(StrEnum):
    """How pruning decides which layers go; width goes by importance except under `random`."""

    importance = "importance"  # Block Influence: the layers that change their input least
    loss = "loss"  # the layers whose removal, one at a time, raises the loss least (Minitron's perplexity criterion)
    loss_run = "loss_run"  # the run of neighbouring layers whose removal raises the loss least
    random = "random"  # baseline: layers, neurons, channels and heads by chance
    last_layers = "last_layers"  # baseline: the last ones


class Aggregate(StrEnum):
    """How absolute activations become one number a channel, first over the sequence, then over the samples."""

    mean = "mean"
    l2 = "l2"
    variance = "variance"


class Count(StrEnum):
    """Which parameters count: all that are stored, or one embedding matrix as the paper counts."""

    all = "all"
    paper = "paper"


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
class RunConfig:
    name: str | None = None  # <model> or <model>-<experiment>
    root: str = "runs"
    stage: str | None = None  # folder inside the run; default: the recipe's own name
    seed: int = 1234


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


@dataclass
class ModelConfig:
    """A teacher: its architecture under Megatron's names, where its weights are, and what is recommended for it."""

    name: str = MISSING
    family: Family = Family.mistral
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
    rope_scaling: dict[str, Any] | None = None  # Hugging Face's dictionary, Llama 3.1's only
    sliding_window: int | None = None
    norm_eps: float = 1e-5
    init_std: float = 0.02
    recommended: RecommendedConfig = field(default_factory=RecommendedConfig)


@dataclass
class PlatformConfig:
    kind: Kind = Kind.auto
    devices: int = 1  # processes on each node
    nodes: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    context_parallel: int = 1
    precision: Precision | None = None  # default: fp32 on CPU, bf16 on GPU
    recompute: Recompute = Recompute.none
    gpu_memory_gib: float = 80.0  # of one GPU, for the plan
    node_memory_gib: float = 1000.0  # of one node, for the plan
    threads: int | None = None  # CPU threads of one process; default: cores / devices


@dataclass
class DataConfig:
    """Text or tokens: `.jsonl[.gz]` with a `text` field, `.txt[.gz]` one paragraph a line, or a Megatron `.bin/.idx` prefix."""

    train: list[str] = field(default_factory=list)
    heldout: list[str] = field(default_factory=list)
    heldout_samples: int = MISSING  # windows of the held-out text that every loss is measured on, from its start
    heldout_more: dict[str, str] = field(default_factory=dict)  # further held-out texts by name, e.g. {en: …}: watched apart
    weights: list[float] | None = None  # of the train sources; default: by size
    document_boundaries: bool = False  # training attention stays within a document; not with Transformer Engine
    exercises: int = 0  # simple Polish exercises (nemo_plugins.data.exercises) mixed into the training text, as documents


@dataclass
class LanguageConfig:
    """What is particular to a language, `conf/language/<code>.yaml`: adding one is adding a file (docs/languages.md)."""

    code: str = MISSING  # ISO 639-1
    name: str = MISSING  # in English
    alphabet: str = MISSING  # its letters in lower case
    stop_words: list[str] = MISSING  # the commonest words, lower case
    replace: dict[str, str] = field(default_factory=dict)  # characters that its texts are freed of, beyond what ftfy mends
    identifiers: list[str] = field(default_factory=lambda: ["email", "iban", "phone"])  # masked: data/personal/identifiers.py
    system_prompt: str = ""  # of chats
    decimal_separator: str = ","
    thousands_separators: list[str] = field(default_factory=lambda: [" ", "\u00a0", "\u202f"])
    number_words: str | None = None  # module:function, from an int to its words
    answer_phrases: list[str] = field(
        default_factory=list
    )  # of a chosen option: regular expressions, its letter the only group
    hedges: list[str] = field(default_factory=list)  # regular expressions of not choosing
    denials: list[str] = field(default_factory=list)  # regular expressions of what follows a letter that is said to be wrong
    evaluation: list[str] = field(default_factory=list)  # suites


@dataclass
class PathConfig:
    path: str | None = None  # NeMo checkpoint or Hugging Face folder; default: what the earlier stage of the same run left


@dataclass
class TeacherConfig(PathConfig):
    mode: TeacherMode = TeacherMode.live
    record: str | None = None  # folder of a recorded teacher; default: the run's `teacher-record` stage


@dataclass
class ConvertConfig:
    source: str | None = None  # default: model.path for `import`, the run's newest checkpoint for `export`
    to: str = "nemo"  # nemo | hf
    dtype: str | None = None  # of an exported folder: bfloat16 | float32; default: the checkpoint's own


@dataclass
class CalibrationConfig:
    samples: int = 1024
    seq_length: int = 4096
    micro_batch_size: int = 1
    data: list[str] = field(default_factory=list)
    subsets: int = 8  # parts whose scores are kept apart, so that one sees whether the samples were enough
    loss_samples: int = 0  # of the calibration text on which each layer's removal is measured; 0: only where a criterion asks


@dataclass
class AggregationConfig:
    """Of FFN, hidden and head importance. Default: the Bielik paper's, which is also what ModelOpt measures."""

    sequence: Aggregate = Aggregate.mean
    samples: Aggregate = Aggregate.l2


@dataclass
class GridConfig:
    """Sizes that a budget or a search may choose from; None: derived from the teacher (`planning/budget.py`)."""

    num_layers: list[int] | None = None
    ffn_hidden_size: list[int] | None = None
    hidden_size: list[int] | None = None
    num_attention_heads: list[int] | None = None


@dataclass
class BudgetConfig:
    """What the student may cost, instead of its sizes. All that is given must hold; None is not a limit."""

    parameters: float | None = None
    count: Count = Count.all
    weights_gb: float | None = None  # 10^9 bytes of the weights in `format`
    device: str | None = None  # a file of conf/device/: weights in `format` and the key-value cache of `context` tokens fit it
    context: int = 8192
    decode_ms: float | None = None  # predicted time of a token on `device`, one stream, from the bytes moved
    format: Format = Format.bf16
    frozen: list[str] = field(default_factory=lambda: ["hidden_size", "num_attention_heads"])  # as the paper's student
    grid: GridConfig = field(default_factory=GridConfig)


@dataclass
class PruneConfig(SizesConfig):
    """The student: sizes, or layers to drop (from 1, as NeMo counts), or a budget. None of them: the recommended student."""

    drop_layers: list[int] | None = None
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    criterion: Criterion = Criterion.importance
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    scores: str | None = None  # file of scores measured before; default: those of the same teacher and calibration, if any
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)


@dataclass
class SearchConfig:
    """Which students are compared, and how far. The sizes and budgets are those of `prune.budget`."""

    candidates: str = "grid"  # grid | paper (the experiments exp_*)
    only: list[str] = field(default_factory=list)  # names: just these, e.g. one a job of a multirun
    slack: float = 0.05  # candidates this much smaller than the largest that fits, and no more
    limit: int = 24  # candidates of the grid at most, the largest first
    part: int | None = None  # share of a job array, from 0; default: SLURM_ARRAY_TASK_ID
    parts: int | None = None
    keep: int = 3  # best ones that are distilled
    distill_steps: int = 0  # of the short distillation; 0: none


@dataclass
class PlanConfig:
    """Assumptions of `recipes/plan.py`."""

    gpu: str = "h100"  # a file of conf/device/: what trains
    gpus: int | None = None  # default: platform.devices x platform.nodes
    mfu: float = 0.4  # model FLOPs utilisation; own choice: what dense 7 B models reach on H100 with Megatron
    device: str = "rtx4090"  # a file of conf/device/: what serves
    format: Format = Format.bf16
    context: int = 8192  # tokens of one stream


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
    alpha: float = 1.0
    skew: float = 0.1  # the teacher's share of the mixture, skewed_kl only (arXiv 2402.03898's alpha)


@dataclass
class DistillConfig(TrainConfig):
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass
class PretrainConfig(TrainConfig):
    sizes: SizesConfig = field(default_factory=SizesConfig)  # train another size than the model's own, e.g. the student's
    from_teacher: bool = False  # go on from the teacher's weights: teacher correction (arXiv 2408.11796)


@dataclass
class LoraConfig:
    """Low-rank adapters in the place of full fine-tuning, NeMo's own; merged into the weights when training is done."""

    dim: int | None = None  # rank; null: all weights are trained
    alpha: int = 32
    dropout: float = 0.0
    target_modules: list[str] = field(default_factory=lambda: ["linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"])


@dataclass
class SftConfig(TrainConfig):
    """Supervised fine-tuning; `data` are dialogues, .jsonl[.gz] with `messages` and, where wanted, a `weight`."""

    heldout: list[str] = field(default_factory=list)
    weight_decay: float = 0.05
    packing: Packing = Packing.auto
    learn: Learn = Learn.every
    bad_rows: BadRows = BadRows.drop
    prompts: list[str] = field(default_factory=list)  # answered at each validation; not on pipelines
    lora: LoraConfig = field(default_factory=LoraConfig)
    adaptive_tokens: int | None = None  # BS of lr * sqrt(T / BS), T a step's learned tokens (arXiv 2410.18565); null: lr stays


@dataclass
class DpoConfig(TrainConfig):
    """Preference pairs; `data` are .jsonl[.gz] with `messages`, `chosen` and `rejected`, batch sizes count pairs."""

    heldout: list[str] = field(default_factory=list)
    weight_decay: float = 0.05
    kind: Preference = Preference.dpop
    beta: float = 0.05
    lam: float = 2.5  # of dpop, outside beta
    gamma: float = 1.0  # of simpo
    bad_rows: BadRows = BadRows.drop
    prompts: list[str] = field(default_factory=list)  # as of sft


@dataclass
class LoggerConfig:
    tensorboard: bool = True
    wandb_project: str | None = None  # Weights & Biases; the key comes from WANDB_API_KEY
    mlflow_uri: str | None = None  # MLflow's tracking server or folder; credentials come from its own environment variables


@dataclass
class StageConfig:
    """One stage of a chain: the recipe that runs it and what it is told beyond the chain's own overrides."""

    name: str = MISSING  # run folder
    recipe: str = MISSING  # file in recipes/
    overrides: list[str] = field(default_factory=list)
    what: str = ""  # one line for the plan


@dataclass
class ExperimentConfig:
    name: str | None = None
    models: list[str] = field(default_factory=list)  # the models that it is for
    stages: list[StageConfig] = field(default_factory=list)


@dataclass
class Recipe:
    """Root of every recipe's configuration."""

    run: RunConfig = field(default_factory=RunConfig)
    dry_run: bool = False
    force: bool = False
    model: ModelConfig = MISSING
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: PathConfig = field(default_factory=PathConfig)
    platform: PlatformConfig = field(default_factory=PlatformConfig)
    data: DataConfig = field(default_factory=DataConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    dpo: DpoConfig = field(default_factory=DpoConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
