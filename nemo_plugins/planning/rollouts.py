"""What drawing completions from the training weights takes: the cache of their keys and values, and time.

A step draws a token for each row of a batch. It reads a copy's weights and the cache from memory, and no graph of kernels is
recorded, so that it takes at least what launching the layers' kernels does. Counted is every completion to its last token.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from nemo_plugins.configs.schema import Engine, GrpoConfig, PlatformConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.planning import memory
from nemo_plugins.planning.devices import Device
from nemo_plugins.planning.memory import Memory

LAUNCH = 0.6e-3  # seconds of a layer in a step, own choice: some twenty kernels and their Python; a model of 32 layers: 19 ms
CACHE_BYTES = 2  # of a key or a value, bf16


@dataclass(frozen=True)
class Rollouts:
    """The completions of a training on its own answers, drawn by its own weights.

    Attributes:
        completions: of a rollout, over all copies of the model.
        batch: of one copy at a time.
        length, drawn: tokens of prompt and completion together, and of a completion, at most.
        updates: of one rollout.
    """

    completions: int
    batch: int
    length: int
    drawn: int
    updates: int

    def rows(self, platform: PlatformConfig) -> int:
        """Completions of a copy at a time."""
        return min(self.batch, ceil(self.completions / memory.data_parallel(platform)))

    def cache(self, model: Architecture, platform: PlatformConfig) -> float:
        """Bytes of keys and values on each GPU."""
        parts = platform.tensor_parallel * platform.pipeline_parallel
        return self.rows(platform) * model.kv_cache_bytes(self.length, CACHE_BYTES) / parts

    def memory(self, model: Architecture, platform: PlatformConfig, training: Memory) -> Memory:
        """Of a GPU while completions are drawn: the state of the training stays where it is."""
        logits = 2 * self.rows(platform) * model.vocab_size * 4 / platform.tensor_parallel
        return Memory(
            weights=training.weights,
            gradients=training.gradients,
            optimizer=training.optimizer,
            teacher=training.teacher,
            cache=self.cache(model, platform),
            logits=logits,
        )

    def seconds(self, model: Architecture, platform: PlatformConfig, gpu: Device) -> float:
        """Of a rollout. The stages of a pipeline wait for each other, so that only tensor parallelism reads side by side."""
        rows = self.rows(platform)
        seen = self.length - self.drawn / 2  # tokens in the cache, on average
        read = 2 * model.parameters() + rows * seen * model.kv_cache_bytes(1, CACHE_BYTES)
        step = model.num_layers * LAUNCH + read / (gpu.bytes_per_second * platform.tensor_parallel)
        return ceil(self.completions / memory.data_parallel(platform) / rows) * self.drawn * step


def of(grpo: GrpoConfig, updates: int) -> Rollouts | None:
    """The rollouts of a configuration; None: a server draws them."""
    if grpo.engine is not Engine.megatron:
        return None
    return Rollouts(grpo.prompts * grpo.group_size, grpo.rollout_batch, grpo.seq_length, grpo.max_tokens, updates)
