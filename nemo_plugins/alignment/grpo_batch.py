"""A rollout's completions as Megatron's models take them, in a file that a resumed run goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from nemo_plugins.runs.atomic import whole_file

FILLED = {"tokens": None, "labels": None}  # with the pad token; all else with 0


@dataclass
class Rollout:
    """The completions of one rollout, in the order of their prompts; `n` of them, of at most `s + 1` tokens with the prompt.

    Attributes:
        tokens: `[n, s + 1]`, prompt and completion. starts, lengths: `[n]`, of the prompt, of both.
        engine, old, reference, correction: `[n, s]`, by label: log-probabilities of the engine, of the trainer before the
            rollout's first update, of the frozen reference (0 without one), and the bounded importance ratio.
        advantages, rewards: `[n]`. learned: `[n]`, 0 for completions that are left out.
        following: `[1]`, the run's next prompt to draw.
    """

    tokens: Tensor
    starts: Tensor
    lengths: Tensor
    engine: Tensor
    old: Tensor
    reference: Tensor
    correction: Tensor
    advantages: Tensor
    rewards: Tensor
    learned: Tensor
    following: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def answers(self) -> Tensor:
        """Which labels were drawn, bool `[n, s]`."""
        place = torch.arange(1, self.tokens.shape[1])
        return (place >= self.starts[:, None]) & (place < self.lengths[:, None])

    def learned_tokens(self) -> Tensor:
        """How many tokens of each completion are learned from, `[n]`."""
        return (self.lengths - self.starts) * self.learned

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        with whole_file(path) as partial:
            save_file({field.name: getattr(self, field.name).contiguous() for field in fields(self)}, partial)

    @classmethod
    def load(cls, path: Path) -> Rollout:
        with safe_open(path, "pt") as file:
            return cls(**{field.name: file.get_tensor(field.name) for field in fields(cls)})


def pack(prompts: Sequence[Sequence[int]], completions: Sequence, pad: int, following: int) -> Rollout:
    """A rollout whose scores are still to come; a prompt and a `rollouts.Completion` each."""
    whole = [[*prompt, *made.ids] for prompt, made in zip(prompts, completions, strict=True)]
    n, longest = len(whole), max(map(len, whole))
    tokens = torch.full((n, longest), pad, dtype=torch.int64)
    engine = torch.zeros(n, longest - 1)
    for row, (ids, prompt, made) in enumerate(zip(whole, prompts, completions, strict=True)):
        tokens[row, : len(ids)] = torch.tensor(ids)
        engine[row, len(prompt) - 1 : len(ids) - 1] = torch.tensor(made.logp)
    zeros, ones = torch.zeros(n), torch.ones(n)
    return Rollout(
        tokens, torch.tensor([len(p) for p in prompts]), torch.tensor([len(ids) for ids in whole]), engine,
        engine.clone(), torch.zeros_like(engine), torch.ones_like(engine), zeros, zeros.clone(), ones,
        torch.tensor([following]),
    )  # fmt: skip


class Rows(Dataset):
    """What the updates of a training learn from: rollout after rollout, each epoch's rows in an order of its own.

    Args:
        samples: completions of all updates together, and a batch more.
        per_rollout, batch: completions of a rollout, and of an update. epochs: how often a rollout is learned from.
    """

    def __init__(self, samples: int, per_rollout: int, batch: int, epochs: int, seed: int, pad: int, multiple: int):
        self.samples = samples
        self.per_rollout = per_rollout
        self.batch = batch
        self.epochs = epochs
        self.seed = seed
        self.pad, self.multiple = pad, multiple
        self.rollout: Rollout | None = None
        self.number = -1  # which rollout it is

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A completion (`row`) with `mean_tokens`, the mean over its update's completions of the tokens that are learned from.

        The sum of `mean_tokens` over any part of an update is that part's share of its tokens: a mean over them needs no
        message between processes. An update with nothing to learn from counts as one of a single token.
        """
        number, place = divmod(index, self.per_rollout * self.epochs)
        if self.rollout is None or number != self.number:
            raise RuntimeError(f"sample {index} is of rollout {number}, {self.number} is here")
        epoch, place = divmod(place, self.per_rollout)
        order = np.random.default_rng([self.seed, 2, number, epoch]).permutation(self.per_rollout)
        update = order[place - place % self.batch :][: self.batch]
        tokens = self.rollout.learned_tokens()[update].sum().clamp_min(1)
        return row(self.rollout, int(order[place])) | {"mean_tokens": tokens / self.batch}

    def collate_fn(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """A micro-batch `[b, s]`, padded on the right; what is added counts nowhere."""
        longest = max(len(item["tokens"]) for item in items)
        length = -(-longest // self.multiple) * self.multiple

        def stacked(name: str) -> Tensor:
            fill = self.pad if name in FILLED else 0
            rows = [item[name] for item in items]
            return torch.stack(
                [x if not x.dim() else torch.nn.functional.pad(x, (0, length - len(x)), value=fill) for x in rows]
            )

        return {name: stacked(name) for name in items[0]}


def row(rollout: Rollout, index: int) -> dict[str, Tensor]:
    """One completion with its prompt: labels are the tokens that follow."""
    size = int(rollout.lengths[index]) - 1
    place = torch.arange(1, size + 1)
    answer = (place >= rollout.starts[index]).float()
    return {
        "tokens": rollout.tokens[index, :size],
        "labels": rollout.tokens[index, 1 : size + 1],
        "position_ids": torch.arange(size),
        "answer_mask": answer,
        "loss_mask": answer * rollout.learned[index],
        **{name: getattr(rollout, name)[index, :size] for name in ("old", "reference", "correction")},
        "advantages": rollout.advantages[index],
        "rewards": rollout.rewards[index],
        "heldout": torch.tensor(0),
    }


class HeldoutReward(Dataset):
    """A validation's result in the place of samples: one dummy batch whose loss is 1 − mean reward."""

    def __init__(self, rows: Rows):
        self.rows = rows
        self.collate_fn = rows.collate_fn
        self.reward = 0.0

    def __len__(self) -> int:
        return self.rows.batch

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        zeros, ids = torch.zeros(8), torch.full((8,), self.rows.pad)
        names = ("answer_mask", "loss_mask", "old", "reference", "correction")
        return {
            "tokens": ids,
            "labels": ids,
            "position_ids": torch.arange(8),
            **dict.fromkeys(names, zeros),
            "advantages": torch.tensor(0.0),
            "rewards": torch.tensor(self.reward),
            "heldout": torch.tensor(1),
        }
