"""What a training computes: its tokens, and the arithmetic of one."""

from __future__ import annotations

from nemo_plugins.configs.schema import TrainConfig
from nemo_plugins.models.architecture import Architecture


def tokens(train: TrainConfig) -> int:
    """Tokens of the whole training."""
    return train.max_steps * train.global_batch_size * train.seq_length


def flops_per_token(train: TrainConfig, model: Architecture, teacher: Architecture | None = None) -> int:
    """Of a training step, averaged over its tokens: three forward passes of the model, one of the teacher."""
    return 3 * model.flops_per_token(train.seq_length) + (teacher.flops_per_token(train.seq_length) if teacher else 0)
