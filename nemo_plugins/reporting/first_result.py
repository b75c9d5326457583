"""The first result of a chain while it runs: size, loss won back, one sentence continued by teacher, pruned and distilled.

python -m nemo_plugins.reporting.first_result FILE TOKENS SENTENCE NAME FOLDER [NAME FOLDER …]    greedy continuations
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data import documents
from nemo_plugins.evaluation import run_outputs
from nemo_plugins.evaluation.run_outputs import FinishedStage
from nemo_plugins.models import hf_model
from nemo_plugins.reporting import headline, heldout_losses
from nemo_plugins.runs import chain, command_line, errors, folder, paths
from nemo_plugins.runs.folder import write
from nemo_plugins.runs.progress_line import ProgressLine

LARGEST = 1e9  # parameters of a teacher that speaks in seconds, on a CPU and beside whatever else runs
WORDS, TOKENS = 8, 24  # of the sentence's beginning and of what follows
PARTS = {"prune": ("size", ("teacher", "pruned")), "convert-export": ("loss recovered", ("distilled",))}  # what a stage adds


class FirstResult:
    """Said once a run, each part as soon as its stage is there; nothing of it is worth ending the chain for.

    Args:
        overrides: those of the stage that exports the distilled student; the pruned one is exported alike, and the evaluation
            finds it.
    """

    def __init__(self, cfg: Recipe, overrides: list[str]) -> None:
        self.cfg = cfg
        self.overrides = overrides
        self.folder = paths.run_root(cfg)
        self.file = self.folder / "first_result.json"
        known = json.loads(self.file.read_text()) if self.file.is_file() else {}
        self.figures, self.continued = known.get("figures", {}), known.get("continued", {})
        self.sentence = known.get("sentence", "")
        self.validated = "loss recovered" in self.figures  # whether the distillation's first validation has been looked at

    def __call__(self, line: ProgressLine) -> None:
        """Say what is new; while a stage runs that is what the distillation's first validation tells: loss won back, words."""
        if line.stage == "distill" and not self.validated:
            self._validation(line)
        elif not line.stage:
            for stage, (figure, models) in PARTS.items():
                if figure not in self.figures:
                    self._part(stage, figure, models, line)

    def _validation(self, line: ProgressLine) -> None:
        losses = [one for one in folder.metrics(self.folder / "distill") if one.get("val_loss") is not None]
        if len(losses) < 2:
            return
        self.validated = True
        first, now = losses[0], losses[1]
        if first["step"] or "teacher_val_loss" not in first:
            return
        share = heldout_losses.recovered(first["teacher_val_loss"], first["val_loss"], now["val_loss"])
        if share is not None:
            value = f"{100 * share:.1f} %"
            line.say(f"  {value:<14} of the held-out loss that pruning cost is won back by step {now['step']:,}")
        samples = self.folder / "distill" / "samples" / f"step={now['step']:07d}.json"  # written before the loss is
        for said in json.loads(samples.read_text()) if samples.is_file() else []:
            line.say(f"  {'so far':<14} {said['prompt']} […] {_one_line(said['answer'])}")

    def _part(self, stage: str, name: str, models: tuple[str, ...], line: ProgressLine) -> None:
        done = {found.name: found for found in run_outputs.stages(self.folder)}
        figure = next((one for one in headline.of(self.folder) if one.name == name), None)
        if stage not in done or not figure:
            return
        if not self.figures:
            line.say("First result")
        line.say(f"  {figure.value:<14} {figure.meaning}")
        self.figures[name] = figure.value
        if done["prune"].summary["teacher"]["parameters"] <= LARGEST:
            self.sentence = self.sentence or next(iter(self.cfg.distill.prompts), "") or beginning(self.cfg)
        if self.sentence:
            for model, text in self._speak(models, done).items():
                line.say(f"  {model:<14} {self.sentence} […] {text}")
                self.continued[model] = text
        known = {"figures": self.figures, "sentence": self.sentence, "continued": self.continued}
        write(self.file, json.dumps(known, indent=2) + "\n")

    def _speak(self, models: tuple[str, ...], done: dict[str, FinishedStage]) -> dict[str, str]:
        """What each model goes on with, greedily; without those that cannot be had."""
        find = {
            "teacher": lambda: paths.local_weights(self.cfg.model.path or ""),
            "pruned": lambda: _export(done["prune"].output("checkpoint"), self.overrides),
            "distilled": lambda: done["convert-export"].output("hf"),
        }
        there = {model: weights for model in models if (weights := find[model]())}
        partial = self.file.with_name(".first_result.partial")
        pairs = [str(word) for pair in there.items() for word in pair]
        command = [sys.executable, "-m", __name__, str(partial.absolute()), str(TOKENS), self.sentence, *pairs]
        if chain.process(command, own_work=True, log=self.file.with_name("chain.log")):
            return {}
        said = json.loads(partial.read_text())
        partial.unlink()
        return said


def _export(checkpoint: Path | None, overrides: list[str]) -> Path | None:
    """The pruned student as a Hugging Face folder, by a stage of its own."""
    if not checkpoint:
        return None
    run = checkpoint.parent.parent
    if exported := run_outputs.export_of(run, checkpoint):
        return exported
    words = [*overrides, "run.stage=pruned-export", command_line.override("convert.source", checkpoint)]
    command = [sys.executable, str(REPOSITORY / "recipes" / "convert.py"), *words]
    return None if chain.process(command, own_work=True, log=run / "chain.log") else run_outputs.export_of(run, checkpoint)


def beginning(cfg: Recipe) -> str:
    """The first words of the first held-out text that has a few more than those."""
    try:
        texts = (text for path in cfg.data.heldout for text in documents.documents(paths.resolve(path)))
        words = next((text.split() for text in texts if len(text.split()) > 2 * WORDS), [])
    except errors.UserError:
        return ""
    return " ".join(words[:WORDS])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main(file: str, tokens: int, sentence: str, pairs: list[str]) -> None:
    """Write what each model goes on with."""
    import torch

    said = {}
    for name, weights in zip(pairs[::2], pairs[1::2], strict=True):
        tokenizer, model = hf_model.tokenizer(weights), hf_model.load(weights, torch.float32)
        ids = tokenizer(sentence, return_tensors="pt").input_ids
        drawn = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
        said[name] = _one_line(tokenizer.decode(drawn[0, ids.shape[1] :], skip_special_tokens=True))
    Path(file).write_text(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
