"""What the model says to a few fixed prompts at each validation, greedily: numbers alone do not show how it answers.

What NeMo lacks: its generation wants a server or a process of its own. Each token is a whole forward pass, so keep prompts few.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from nemo.utils.model_utils import unwrap_model

from nemo_plugins import runs
from nemo_plugins.alignment.rollouts.megatron import generating
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.distillation import agreement
from nemo_plugins.distillation.watch import vocabulary_group
from nemo_plugins.reporting.page import PageTable, Section

TOKENS = 48  # of an answer


class Generations(Callback):
    """Writes `samples/step=<step>.json`, a list of {prompt, answer}, at each validation.

    Args:
        folder: the stage's.
        prompts: a user's words each.
        template, tokenizer: of the model.
        longest: tokens that its context holds.
    """

    def __init__(self, folder: Path, prompts: Sequence[str], template: ChatTemplate, tokenizer, longest: int):
        self.folder = folder
        self.prompts = prompts
        self.template = template
        self.tokenizer = tokenizer
        self.longest = longest

    @torch.no_grad()
    def on_validation_end(self, trainer, pl_module) -> None:
        model = unwrap_model(trainer.strategy.megatron_parallel[0])
        with generating(model):
            said = [{"prompt": prompt, "answer": self.answer(model, prompt)} for prompt in self.prompts]
        if trainer.is_global_zero:
            path = self.folder / "samples" / f"step={trainer.global_step:07d}.json"
            runs.folder.write(path, json.dumps(said, ensure_ascii=False, indent=1))

    def answer(self, model, prompt: str) -> str:
        """The most likely token again and again, to the end of the turn."""
        ids = self.template.ids([{"role": "user", "content": prompt}], add_generation_prompt=True)
        start, device = len(ids), torch.cuda.current_device()
        while len(ids) < min(start + TOKENS, self.longest) and ids[-1] not in self.template.ends:
            tokens = torch.tensor([ids], device=device)
            logits = model(tokens, torch.arange(len(ids), device=device)[None], None)[:, -1:].transpose(0, 1)
            ids.append(int(agreement.best(logits, vocabulary_group())))
        return self.tokenizer.decode(ids[start:], skip_special_tokens=True)


def section(folder: Path) -> list[Section]:
    """The answers of every validation for the report; nothing where none were written."""
    files = sorted((folder / "samples").glob("step=*.json"))
    rows = [
        (f"{int(file.stem.partition('=')[2]):,}", one["prompt"], one["answer"])
        for file in files
        for one in json.loads(file.read_text())
    ]
    return [Section("What it says", [PageTable(["step", "prompt", "answer"], rows)])] if rows else []
