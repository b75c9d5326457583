"""What on-policy distillation learns from and is measured on: the student's own completions, or answers of the data."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import Dataset

from nemo_plugins import runs
from nemo_plugins.alignment.first_rank import on_first_rank, outcome
from nemo_plugins.alignment.grpo_batch import Rollout, Rows, pack, row
from nemo_plugins.alignment.rewards.scoring import Scorer
from nemo_plugins.alignment.rollout_callback import RolloutCallback, callback, gathered, share
from nemo_plugins.alignment.rollouts import Completion, Request
from nemo_plugins.alignment.rollouts.sampling import uniforms
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.data.chat.prompts import Prompt
from nemo_plugins.training.parameters import settled
from nemo_plugins.training.progress import Metrics

TRAINED, HELDOUT = 0, 1  # whose uniform numbers
SHOWN = 8  # held-out prompts whose answers are written down


def is_on_policy(number: int, on_policy: float) -> bool:
    """Whether batch `number` is of the student's own completions: `on_policy` of all are, as evenly as whole batches allow."""
    return math.floor((number + 1) * on_policy) > math.floor(number * on_policy)


class HeldoutSamples(Dataset):
    """The student's completions of the held-out prompts, of the last validation; `count` of them."""

    def __init__(self, rows: Rows, count: int):
        self.collate_fn = rows.collate_fn
        self.count = count
        self.rollout: Rollout | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if self.rollout is None:
            raise RuntimeError("no held-out completions have been drawn")
        return row(self.rollout, index) | {"heldout": torch.tensor(1)}


class DistillationRollouts(RolloutCallback):
    """Args besides those of `RolloutCallback`:
    decode: from tokens to a completion's words.
    samples: get the held-out completions before each validation.
    scorer: of held-out prompts that have a reference.
    """

    def __init__(
        self, cfg: Recipe, run: runs.Run, prompts: Mapping[str, Sequence[Prompt]], rows: Rows, decode: Callable,
        samples: HeldoutSamples, scorer: Scorer, engine: Callable,
    ):  # fmt: skip
        super().__init__(run, cfg.run.seed, 1, prompts, rows, engine)
        self.opd = cfg.opd
        self.decode = decode
        self.samples = samples
        self.scorer = scorer

    def on_train_start(self, trainer, pl_module) -> None:
        self.begin(trainer)

    def on_validation_start(self, trainer, pl_module) -> None:
        if trainer.sanity_checking:  # the validation before the first step comes before `on_train_start`
            self.begin(trainer)
        with settled(trainer.strategy.megatron_parallel):
            drawn = self.complete([self.request(prompt, place, HELDOUT) for place, prompt in enumerate(self.heldout)])
            self.samples.rollout = pack([prompt.ids for prompt in self.heldout], drawn, self.rows.pad, 0)
            self.answer(trainer)

    def request(self, prompt: Prompt, draw: int, which: int) -> Request:
        return Request(prompt.ids, uniforms(self.seed, draw, which, self.opd.max_tokens), draw)

    def complete(self, requests: Sequence[Request], greedy: bool = False) -> list[Completion]:
        """One completion each, the same on every process; data-parallel copies share the work."""
        mine = share(range(len(requests)))
        made = outcome(lambda: dict(zip(mine, self.engine.complete([requests[i] for i in mine], greedy), strict=True)))
        found = gathered(made)
        return [found[i] for i in range(len(requests))]

    def roll(self, trainer, number: int, following: int) -> Rollout:
        """A batch of prompts with the student's completions, or with the data's own answers."""
        began, draws = time.monotonic(), range(following, following + self.opd.global_batch_size)
        prompts = [self.prompt(draw) for draw in draws]
        values: dict[str, float] = {"on_policy": int(is_on_policy(number, self.opd.share))}
        if values["on_policy"]:
            made = self.complete([self.request(prompt, draw, TRAINED) for draw, prompt in zip(draws, prompts, strict=True)])
            entropies, seconds = [value for one in made for value in one.entropy], time.monotonic() - began
            values |= {
                "length": sum(len(one.ids) for one in made) / len(made),
                "truncated": sum(not one.ended for one in made) / len(made),
                "entropy": sum(entropies) / len(entropies),
                "rollout_seconds": seconds,
                "rollout_tokens_per_second": sum(len(one.ids) for one in made) / seconds,
            }
        else:
            made = [self.given(prompt) for prompt in prompts]
        callback(trainer, Metrics).write(trainer, trainer.global_step + 1, values)
        return pack([prompt.ids for prompt in prompts], made, self.rows.pad, draws.stop)

    def given(self, prompt: Prompt) -> Completion:
        """The data's own answer; as long as the student's may be."""
        ids = list(prompt.answer_ids[: self.opd.max_tokens])
        return Completion(ids, [0.0] * len(ids), [], len(ids) == len(prompt.answer_ids))

    def answer(self, trainer) -> None:
        """Greedy answers to the held-out prompts: the share solved of those that have a reward, and the first to read."""
        scored = [prompt for prompt in self.heldout if prompt.kind in self.scorer.mix.get(prompt.kind, ())]
        asked = [*scored, *(prompt for prompt in self.heldout[:SHOWN] if prompt not in scored)]
        empty, step = np.zeros(self.opd.max_tokens), trainer.global_step
        texts = [self.decode(one.ids) for one in self.complete([Request(p.ids, empty) for p in asked], greedy=True)]
        if trainer.is_global_zero:
            said = [{"prompt": p.text, "answer": text} for p, text in zip(asked[:SHOWN], texts[:SHOWN], strict=True)]
            self.write("samples", step, json.dumps(said, ensure_ascii=False, indent=1))
        if scored:
            pairs = list(zip(scored, texts, strict=False))
            solved = on_first_rank(distributed.group.WORLD, lambda: [self.is_solved(*pair) for pair in pairs])
            if trainer.is_global_zero:  # which ones, so that two models can be held against each other prompt by prompt
                self.write("solved", step, json.dumps(solved))
            callback(trainer, Metrics).write(trainer, step, {"val_accuracy": sum(solved) / len(solved)})

    def is_solved(self, prompt: Prompt, text: str) -> bool:
        """Whether the reward of the prompt's kind is whole."""
        scores = self.scorer.score([prompt.text], [text], [prompt.reference], [prompt.kind])
        return scores.by_reward[prompt.kind][0] == 1

    def write(self, folder: str, step: int, text: str) -> None:
        runs.folder.write(self.run.folder / folder / f"step={step:07d}.json", text)
