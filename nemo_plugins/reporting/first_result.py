"""The first result of a chain, once it has a distilled student: size, loss won back, a sentence continued by each model.

python -m nemo_plugins.reporting.first_result FILE TOKENS SENTENCE NAME FOLDER [NAME FOLDER …]    greedy continuations
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nemo_plugins.configs.schema import Recipe
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data import documents
from nemo_plugins.evaluation import subjects
from nemo_plugins.reporting import headline
from nemo_plugins.runs import chain, command_line, errors, paths
from nemo_plugins.runs.folder import write
from nemo_plugins.runs.progress_line import ProgressLine

STAGES = ("prune", "distill", "convert-export")
FIGURES = ("size", "loss recovered")
LARGEST = 1e9  # parameters of a teacher that speaks in seconds, on a CPU and beside whatever else runs
WORDS, TOKENS = 8, 24  # of the sentence's beginning and of what follows


def show(cfg: Recipe, overrides: list[str], line: ProgressLine) -> None:
    """Say it once a run, when its stages are there; nothing of it is worth ending the chain for.

    Args:
        overrides: those of the stage that exported the distilled student; the pruned one is exported alike, and the evaluation
            finds it.
    """
    folder = paths.run_root(cfg)
    done = {stage.name: stage for stage in subjects.stages(folder) if stage.name in STAGES}
    file = folder / "first_result.json"
    if len(done) < len(STAGES) or file.is_file():
        return
    figures = [figure for figure in headline.of(folder) if figure.name in FIGURES]
    line.say("First result")
    for figure in figures:
        line.say(f"  {figure.value:<14} {figure.meaning}")
    said = _continued(cfg, overrides, done, file) if done["prune"].summary["teacher"]["parameters"] <= LARGEST else {}
    for name, text in said.get("continued", {}).items():
        line.say(f"  {name:<14} {said['sentence']} […] {text}")
    write(file, json.dumps({"figures": {figure.name: figure.value for figure in figures}, **said}, indent=2) + "\n")


def _continued(cfg: Recipe, overrides: list[str], done: dict[str, subjects.FinishedStage], file: Path) -> dict:
    """The beginning of a held-out text and what each model goes on with, greedily; empty where it cannot be had."""
    checkpoint = done["prune"].output("checkpoint")
    folders = {
        "teacher": paths.local_weights(cfg.model.path or ""),
        "pruned": checkpoint and _export(checkpoint, overrides),
        "distilled": done["convert-export"].output("hf"),
    }
    there = {name: folder for name, folder in folders.items() if folder}
    sentence = beginning(cfg)
    partial = file.with_name(".first_result.partial")
    pairs = [str(word) for pair in there.items() for word in pair]
    command = [sys.executable, "-m", __name__, str(partial.absolute()), str(TOKENS), sentence, *pairs]
    if not sentence or chain.process(command, aside=True, log=file.with_name("chain.log")):
        return {}
    continued = json.loads(partial.read_text())
    partial.unlink()
    return {"sentence": sentence, "continued": continued}


def _export(checkpoint: Path, overrides: list[str]) -> Path | None:
    """The pruned student as a Hugging Face folder, by a stage of its own."""
    run = checkpoint.parent.parent
    if found := subjects.export_of(run, checkpoint):
        return found
    words = [*overrides, "run.stage=pruned-export", command_line.override("convert.source", checkpoint)]
    command = [sys.executable, str(REPOSITORY / "recipes" / "convert.py"), *words]
    return None if chain.process(command, aside=True, log=run / "chain.log") else subjects.export_of(run, checkpoint)


def beginning(cfg: Recipe) -> str:
    """The first words of the first held-out text that has a few more than those."""
    try:
        texts = (text for path in cfg.data.heldout for text in documents.documents(paths.resolve(path)))
        words = next((text.split() for text in texts if len(text.split()) > 2 * WORDS), [])
    except errors.UserError:
        return ""
    return " ".join(words[:WORDS])


def main(file: str, tokens: int, sentence: str, pairs: list[str]) -> None:
    """Write what each model goes on with."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    known = {"local_files_only": True, "trust_remote_code": False}
    said = {}
    for name, folder in zip(pairs[::2], pairs[1::2], strict=True):
        tokenizer = AutoTokenizer.from_pretrained(folder, **known)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **known).eval()
        ids = tokenizer(sentence, return_tensors="pt").input_ids
        drawn = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
        said[name] = " ".join(tokenizer.decode(drawn[0, ids.shape[1] :], skip_special_tokens=True).split())
    Path(file).write_text(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
