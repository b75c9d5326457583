"""What the model says to a few fixed prompts at each validation, greedily: numbers alone do not show how it answers.

What NeMo lacks: its generation wants a server or a process of its own. Each token is a whole forward pass, so keep prompts few.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from nemo.utils.model_utils import unwrap_model

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.reporting.page import PageTable, Section
from nemo_plugins.training.vocabulary_parallel import best, vocabulary_group

TOKENS = 48  # of an answer


class Generations(Callback):
    """Writes `samples/step=<step>.json`, a list of {prompt, answer}, at each validation.

    Args:
        folder: the stage's.
        prompts: the words of each, and its tokens.
        ends: tokens that end an answer.
        tokenizer: of the model.
        longest: tokens that its context holds.
        tokens: of an answer, at most.
    """

    def __init__(
        self, folder: Path, prompts: Mapping[str, Sequence[int]], ends: Container[int], tokenizer, longest: int, tokens: int
    ):  # fmt: skip
        self.folder = folder
        self.prompts = prompts
        self.ends = ends
        self.tokenizer = tokenizer
        self.longest = longest
        self.tokens = tokens

    @torch.no_grad()
    def on_validation_end(self, trainer, pl_module) -> None:
        model = unwrap_model(trainer.strategy.megatron_parallel[0])
        with generating(model):
            said = [{"prompt": prompt, "answer": self.answer(model, ids)} for prompt, ids in self.prompts.items()]
        if trainer.is_global_zero:
            path = self.folder / "samples" / f"step={trainer.global_step:07d}.json"
            runs.folder.write(path, json.dumps(said, ensure_ascii=False, indent=1))

    def answer(self, model, prompt: Sequence[int]) -> str:
        """The most likely token again and again, to one that ends the answer."""
        ids, device = list(prompt), torch.cuda.current_device()
        while len(ids) < min(len(prompt) + self.tokens, self.longest) and (len(ids) == len(prompt) or ids[-1] not in self.ends):
            tokens = torch.tensor([ids], device=device)
            logits = model(tokens, torch.arange(len(ids), device=device)[None], None)[:, -1:].transpose(0, 1)
            ids.append(int(best(logits, vocabulary_group())))
        return self.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)


def of(
    cfg: Recipe, folder: Path, prompts: Mapping[str, Sequence[int]], ends: Container[int], tokenizer, tokens: int = TOKENS
) -> list[Generations]:  # fmt: skip
    """The callback; none without prompts, or where a process has neither the whole model nor a whole sequence."""
    whole = cfg.platform.pipeline_parallel == cfg.platform.context_parallel == 1
    return [Generations(folder, prompts, ends, tokenizer, cfg.model.context_length, tokens)] if prompts and whole else []


def section(folder: Path) -> list[Section]:
    """The answers of every validation for the report; nothing where none were written."""
    files = sorted((folder / "samples").glob("step=*.json"))
    rows = [
        (f"{int(file.stem.partition('=')[2]):,}", one["prompt"], one["answer"])
        for file in files
        for one in json.loads(file.read_text())
    ]
    return [Section("What it says", [PageTable(["step", "prompt", "answer"], rows)])] if rows else []


@contextmanager
def generating(model) -> Iterator[None]:
    """Without dropout and sequence parallelism, which knows nothing of single tokens; afterwards as before."""
    training = model.training
    with _whole_sequences(model) if model.config.sequence_parallel else nullcontext():
        model.eval()
        try:
            yield
        finally:
            model.train(training)
            RotaryEmbedding.forward.cache_clear()  # it keeps tensors of inference mode, which no backward pass may save


@contextmanager
def _whole_sequences(model) -> Iterator[None]:
    from megatron.core.transformer.utils import set_model_to_sequence_parallel

    # NeMo's adapters have a switch of their own
    adapters = [module for module in model.modules() if getattr(module, "disable_sequence_parallel_comm", None) is False]

    def switch(on: bool) -> None:
        set_model_to_sequence_parallel(model, on)
        for adapter in adapters:
            adapter.disable_sequence_parallel_comm = not on

    switch(False)
    try:
        yield
    finally:
        switch(True)
