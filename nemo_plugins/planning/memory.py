"""How much memory a stage takes: formulas of a page, not a simulator. Each says what it counts; expect ±20 %.

Training state of Megatron: working weights (2 bytes in bf16, 4 in fp32), fp32 gradients (4), and
fp32 master weights with two Adam moments (12, or 8 beside fp32 working weights), the last spread over the data-parallel and
the context-parallel ranks, all of which hold the same weights, by the distributed optimizer (`platform.shard_optimizer`).
Activations: what Megatron's layers keep, in the manner of Korthikanti et al. (arXiv 2205.05198), no attention scores.
Tensor parallelism brings sequence parallelism: a rank keeps the norms' inputs and outputs of its share of the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nemo_plugins.configs.schema import PlatformConfig, Recompute, SftConfig, TrainConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES, QK_NORM

# Measured on Linux (VmHWM): a process with torch, NeMo and a model of 10 M parameters, less that model
CONVERSION_PROCESS = 800 * 2**20
PRUNING_PROCESS = 1050 * 2**20  # ModelOpt and Lightning's validation besides
PRUNING_LOGITS = 4  # copies at the peak of the held-out loss on a CPU
TRAINING_PROCESS = 1100 * 2**20
LOGIT_COPIES = 3  # bf16 logits, their fp32 copy and its gradient count as this many fp32 copies, of each model


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU, or of one process on a CPU, where `process` is what it takes without a model."""

    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    teacher: float = 0.0
    activations: float = 0.0
    logits: float = 0.0
    cache: float = 0.0  # keys and values of what is being drawn
    process: float = 0.0
    moments: float = 0.0  # of the FFN's activations, and one layer's in fp64, for `prune.compensate`

    @property
    def total(self) -> float:
        return sum(vars(self).values())


def data_parallel(platform: PlatformConfig) -> int:
    """Copies of the model: the world over TP · PP · CP."""
    parts = platform.tensor_parallel * platform.pipeline_parallel * platform.context_parallel
    return platform.devices * platform.nodes // parts


def layer_activations(model: Architecture, tokens: int, bytes_per_value: int, one_kernel: bool = True) -> float:
    """Bytes that one of Megatron's layers keeps for its backward pass (tests/planning/test_training_state.py counts them).

    Both norms; q, k and v as one tensor, of which v stays a part, q and k once more with their rotation, its sines and cosines,
    the attention's output; gate and up as one tensor, up once more (to which Megatron adds an offset), the activated gate and
    the product in the FFN. Llama's configuration fuses the last, and keeps `2 * ffn_hidden_size` values a token less. A CPU's
    attention keeps q, k, v and its output in fp32 instead (platforms/attention.py) where all else is bf16.
    Not counted: the norms' and the attention's fp32 statistics, 8 + 4 · heads bytes a token.

    Args:
        one_kernel: as of `norm_activations`.
    """
    heads, groups = model.num_attention_heads, model.num_query_groups
    attention = bytes_per_value * (3 * heads + 3 * groups + 4) * model.head_dim
    if bytes_per_value == 2 and not one_kernel:
        attention = (4 * (2 * heads + 2 * groups) + 2 * (heads + 4)) * model.head_dim
    norms = norm_activations(2 * model.hidden_size, tokens, bytes_per_value, one_kernel)
    if QK_NORM[0] in FAMILIES[model.family].vectors:
        norms += qk_norm_activations(model, tokens, bytes_per_value, one_kernel)
    return norms + tokens * (attention + bytes_per_value * 5 * model.ffn_hidden_size)


def norm_activations(channels: int, tokens: int, bytes_per_value: int, one_kernel: bool = True) -> float:
    """Bytes that a norm keeps: its input and its output.

    Args:
        channels: of a token that pass it.
        one_kernel: false on a CPU, where torch's RMSNorm keeps its input and what comes of dividing it in fp32, and its output.
    """
    return tokens * channels * (2 * bytes_per_value if one_kernel else 8 + bytes_per_value)


def qk_norm_activations(model: Architecture, tokens: int, bytes_per_value: int, one_kernel: bool) -> float:
    """Bytes that the norms of q and k keep: q, and k where it is cast, for it is a part of q, k and v as one tensor otherwise.

    The rotation that comes next needs no output of theirs. `one_kernel` as of `norm_activations`.
    """
    q, k = model.query_size, model.key_size
    if one_kernel:
        return tokens * q * bytes_per_value
    return tokens * 4 * (q + k + q + (k if bytes_per_value < 4 else 0))


def training(
    model: Architecture,
    train: TrainConfig,
    platform: PlatformConfig,
    bytes_per_value: int,
    teacher: Architecture | None = None,
    sharded: bool = True,
    on_gpu: bool = True,
) -> Memory:
    """A process's share of a training step; the teacher keeps weights and logits only.

    Args:
        sharded: whether the copies of the model share out the optimizer's state.
    """
    model_parallel = platform.tensor_parallel * platform.pipeline_parallel
    share = model.parameters() / model_parallel
    tokens = train.micro_batch_size * train.seq_length // platform.context_parallel
    vocabulary = tokens * model.vocab_size * 4 * LOGIT_COPIES / platform.tensor_parallel
    master = 12 if bytes_per_value == 2 else 8
    # the first of p pipeline stages holds p micro-batches of a p-th of the layers: the whole again
    one = layer_activations(model, tokens, bytes_per_value, on_gpu) / platform.tensor_parallel
    last = norm_activations(model.hidden_size, tokens, bytes_per_value, on_gpu) / platform.tensor_parallel
    layers = model.num_layers * one + last
    if platform.recompute is Recompute.full:  # each layer's input, and the one that is computed again
        layers = model.num_layers * tokens * bytes_per_value * model.hidden_size / platform.tensor_parallel + one
    learning = 0 if isinstance(train, SftConfig) and train.lora.dim is not None else share  # adapters' own are few
    copies = data_parallel(platform) * platform.context_parallel if sharded else 1
    return Memory(
        weights=share * bytes_per_value,
        gradients=learning * 4,
        optimizer=learning * master / copies,
        teacher=teacher.parameters() / model_parallel * bytes_per_value if teacher else 0.0,
        activations=layers,
        logits=vocabulary * (2 if teacher else 1),
    )


def pruning(teacher: Architecture, tokens: int, platform: PlatformConfig, bytes_per_value: int = 2) -> Memory:
    """A process's share of a calibration pass: weights, one layer's activations, logits in fp32."""
    stages = platform.pipeline_parallel
    return Memory(
        weights=teacher.parameters() * bytes_per_value / stages,
        activations=layer_activations(teacher, tokens, bytes_per_value),
        logits=tokens * teacher.vocab_size * 4,
    )


def ffn_moments(teacher: Architecture, kept_layers: int, platform: PlatformConfig) -> float:
    """Bytes of a process's share of `prune.compensate`: f² values in fp32 for each kept layer, and three times in fp64 of one.

    A stage of a pipeline counts as if none of its layers went, up to all that are kept.
    """
    layers = min(kept_layers, -(-teacher.num_layers // platform.pipeline_parallel))
    return (4 * layers + 3 * 8) * teacher.ffn_hidden_size**2


def pruning_on_cpu(teacher: Architecture, tokens: int, platform: PlatformConfig, bytes_per_value: int) -> Memory:
    """The same of a process on a CPU, where NeMo itself counts and the loss keeps copies of the logits."""
    need = pruning(teacher, tokens, platform, bytes_per_value)
    return replace(need, logits=PRUNING_LOGITS * need.logits, process=PRUNING_PROCESS)


def conversion(model: Architecture, bytes_per_value: int) -> int:
    """Host bytes of a conversion besides its process: the Hugging Face copy and the NeMo copy at once."""
    return 2 * model.parameters() * bytes_per_value


def checkpoint(model: Architecture, bytes_per_value: int, optimizer: bool) -> int:
    """Bytes on disk: the weights, with master weights and two moments in fp32 where training is to resume from it."""
    return model.parameters() * (bytes_per_value + (12 if optimizer else 0))
