"""What every format is held against: the folder's own weights in transformers, on held-out text and a few prompts.

Computed once and kept in files until the stage is done, so that one model is in memory at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nemo_plugins.runs.atomic import whole

PROMPT_TOKENS = 12  # of a held-out document that is gone on with
POSITIONS = 512  # compared at a time


@dataclass(frozen=True)
class Quality:
    """Against the reference: KL(reference ‖ format) in nats a token, share of equal likeliest tokens, both perplexities."""

    kl: float
    top1: float
    perplexity: float
    perplexity_reference: float


@dataclass(frozen=True)
class Reference:
    """Held-out windows with their logits, float32 [windows, tokens, vocab] in a file, and greedy answers to prompts."""

    windows: list[list[int]]
    logits: np.ndarray
    prompts: list[list[int]]
    answers: list[list[int]]

    def quality(self, logits: Callable[[list[int]], np.ndarray]) -> Quality:
        """Run a format over the windows.

        Args:
            logits: token ids of a window → float32 [tokens, vocab].
        """
        kl = top1 = own = other = 0.0
        positions = targets = 0
        for number, window in enumerate(self.windows):
            got, known = logits(window), self.logits[number]
            for start in range(0, len(window), POSITIONS):
                stop = min(start + POSITIONS, len(window))
                p = torch.from_numpy(np.array(known[start:stop])).log_softmax(-1)
                q = torch.from_numpy(got[start:stop]).log_softmax(-1)
                kl += (p.exp() * (p - q)).sum(dtype=torch.float64).item()
                top1 += (p.argmax(-1) == q.argmax(-1)).sum().item()
                positions += stop - start
                following = torch.tensor(window[start + 1 : stop + 1])
                at = torch.arange(len(following))
                own -= p[at, following].sum(dtype=torch.float64).item()
                other -= q[at, following].sum(dtype=torch.float64).item()
                targets += len(following)
        return Quality(
            kl / positions,
            top1 / positions,
            float(np.exp(other / targets)),
            float(np.exp(own / targets)),
        )

    def equal_answers(self, answer: Callable[[list[int], int], Sequence[int]]) -> int:
        """Prompts that a format answers with the same tokens, greedily.

        Args:
            answer: prompt and number of new tokens → tokens, without the end's.
        """
        return sum(list(answer(prompt, len(known))) == known for prompt, known in zip(self.prompts, self.answers, strict=True))

    def numbers(self, logits: Callable[[list[int]], np.ndarray], answer: Callable[[list[int], int], Sequence[int]]) -> dict:
        """What a format's line of the summary says of it: quality where there are windows, equal answers and of how many."""
        quality = vars(self.quality(logits)) if self.windows else {}
        return {**quality, "greedy_equal": self.equal_answers(answer), "greedy_of": len(self.prompts)}


@torch.no_grad()
def logits(model, window: list[int]) -> np.ndarray:
    """A transformers model's logits of one sequence, float32 [tokens, vocab]."""
    return model(torch.tensor([window], device=model.device), use_cache=False).logits[0].float().cpu().numpy()


@torch.no_grad()
def answer(model, prompt: list[int], new_tokens: int) -> list[int]:
    """What a transformers model says greedily, without the token that ends it."""
    if not new_tokens:
        return []
    ids = torch.tensor([prompt], device=model.device)
    ends = model.generation_config.eos_token_id
    said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False)[0].tolist()
    said = said[len(prompt) :]
    return said[:-1] if said and said[-1] in (ends if isinstance(ends, list) else [ends]) else said


def make(model, folder: Path, windows: list[list[int]], texts: list[str], tokenizer, prompts: int, new_tokens: int) -> None:
    """Write a reference to `folder`, whole or not at all.

    Args:
        texts: held-out documents, whose first words are the prompts.
    """
    shape = (len(windows), len(windows[0]) if windows else 0, model.config.vocab_size)
    with whole(folder) as partial:
        kept = np.lib.format.open_memmap(partial / "logits.npy", mode="w+", dtype=np.float32, shape=shape)
        for number, window in enumerate(windows):
            kept[number] = logits(model, window)
        kept.flush()
        begun = [tokenizer(text)["input_ids"][:PROMPT_TOKENS] for text in texts[:prompts]]
        answers = [answer(model, prompt, new_tokens) for prompt in begun]
        (partial / "tokens.json").write_text(json.dumps({"windows": windows, "prompts": begun, "answers": answers}))


def load(folder: Path) -> Reference:
    """What `make` wrote."""
    tokens = json.loads((folder / "tokens.json").read_text())
    return Reference(logits=np.load(folder / "logits.npy", mmap_mode="r"), **tokens)
