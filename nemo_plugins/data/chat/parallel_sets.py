"""Chat sets by many processes, `recipes/data.py corpus.task=chats`: before a training, on machines without GPUs.

Each set's files are cut into pieces of lines. A task encodes one piece into a folder of its own; the last tasks put the pieces
of a set together in the cache where `sets.samples` looks, and pack its windows. That is to the byte what one process of the
training would make. A task that was killed is done again, a folder that is there is whole. Evaluation items cost one more
reading: which of their words are common is known once all rows were seen.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from nemo_plugins import runs
from nemo_plugins.configs.schema import ChatSource, Packing, Recipe
from nemo_plugins.data.chat import evaluation_items, packing, rows, sets, store
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.data.corpus import execute
from nemo_plugins.data.corpus.duplicates import CorpusJob, single
from nemo_plugins.planning import chat_sets_plan
from nemo_plugins.runs import locks, sizes
from nemo_plugins.runs.atomic import whole, write

MIB = 1 << 20


@dataclass(frozen=True)
class ChatsWork:
    """What the tasks of a run share.

    Attributes:
        folder: of their parts.
        tokenizer: folder with it.
        vocabulary: rows of the model's embedding.
        sets: with the folder that each becomes, and the seed that its windows are shuffled by; None: it is not packed.
        pieces: of all sets, each with its set's number.
    """

    folder: Path
    tokenizer: Path
    vocabulary: int
    sets: tuple[tuple[sets.ChatSet, Path, int | None], ...]
    pieces: tuple[tuple[int, rows.Piece], ...]

    def counts(self, task: int) -> Path:
        return self.folder / "counts" / f"{task:05d}.json"

    def part(self, task: int) -> Path:
        return self.folder / "parts" / f"{task:05d}"

    def tasks(self, number: int) -> list[int]:
        """Those of a set, in the order of its rows."""
        return [task for task, (of, _) in enumerate(self.pieces) if of == number]


def run(cfg: Recipe, run: runs.Run) -> None:
    """Make what is not made yet of the dialogues and pairs that `sft` and `dpo` name."""
    if not run.is_writer:
        return
    work = prepare(cfg, run)
    jobs, logs = stages(work), work.folder / "logs"
    if not all(to.exists() for _, to, _ in work.sets):
        execute.run(jobs, logs, cfg)
    if not cfg.corpus.keep_work:
        shutil.rmtree(work.folder / "parts", ignore_errors=True)
    metrics: dict[str, float] = {}
    outputs, reports = {}, {}
    for made_of, to, _ in work.sets:
        samples = store.read(to)
        name = made_of.key.replace(".", "_")
        outputs[name], reports[made_of.key] = to, samples.report
        metrics |= {f"{name}_samples": len(samples), f"{name}_tokens": int(samples.positions.sum())}
        metrics[f"{name}_rows_dropped"] = samples.report["dropped"]
    run.finish(outputs, metrics, next=[runs.command(cfg, stage) for stage in chat_sets_plan.named(cfg)], rows=reports)


def prepare(cfg: Recipe, run: runs.Run) -> ChatsWork:
    """The sets and their pieces: the same whenever it is asked, while the files are the same."""
    vocabulary = sizes.student(cfg).vocab_size
    folder = run.folder / "tokenizer"
    tokenizer = save_tokenizer(chat_sets_plan.tokenizer(cfg), folder, cfg.chat.template)
    template, cache = ChatTemplate(tokenizer, vocabulary), sets.cache(cfg)
    items = evaluation_items.of(cfg.corpus.decontamination, run.folder / "evaluation_items")
    found = []
    for stage in chat_sets_plan.named(cfg):
        packed = stage == "sft" and cfg.sft.packing is not Packing.none
        for name in sets.SETS:
            made_of = sets.of(cfg, stage, name, items)
            if not made_of.paths:
                continue
            for path in made_of.paths:
                run.input(path, kept=True)
            found.append((made_of, made_of.folder(template, cache), cfg.run.seed if packed else None))
    size = cfg.corpus.part_mib * MIB
    names = " ".join([str(size), *(to.name for _, to, _ in found)])
    work = run.folder / "work" / hashlib.sha256(names.encode()).hexdigest()[:16]
    pieces = () if all(to.exists() for _, to, _ in found) else _pieces(work / "pieces.json", found, size)
    return ChatsWork(work, folder, vocabulary, tuple(found), pieces)


def _pieces(file: Path, found: list[tuple[sets.ChatSet, Path, int | None]], size: int) -> tuple[tuple[int, rows.Piece], ...]:
    """The pieces of all sets, noted in a file: compressed text is unpacked to know them."""
    if not file.is_file():
        paths = ((number, path) for number, (made_of, _, _) in enumerate(found) for path in made_of.paths)
        cut = [(number, asdict(piece)) for number, path in paths for piece in rows.pieces(path, size)]
        write(file, json.dumps(cut, default=str))
    return tuple(
        (number, rows.Piece(**{**piece, "path": Path(piece["path"])})) for number, piece in json.loads(file.read_text())
    )


def save_tokenizer(described: Path, folder: Path, source: ChatSource):
    """The tokenizer that a training has of these files, saved for the tasks. Returns transformers' own."""
    from transformers import AutoTokenizer

    from nemo_plugins.models import nemo

    nemo.copy_description(described, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    more = {"sep_token": tokenizer.sep_token or tokenizer.eos_token, "cls_token": tokenizer.cls_token or tokenizer.bos_token}
    # NeMo gives these to every tokenizer (nemo/collections/common/tokenizers/huggingface/auto_tokenizer.py)
    tokenizer.add_special_tokens({role: name for role, name in more.items() if name} | {"additional_special_tokens": []})
    if source is ChatSource.chatml:
        from nemo_plugins.alignment import chat_files

        chat_files.write_chatml(tokenizer, folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def stages(work: ChatsWork) -> list[CorpusJob]:
    """What is to be done, one after the other."""
    tasks = len(work.pieces)
    items = [CorpusJob("chats_items", tasks, partial(single, CountItems, work))]
    encode = CorpusJob("chats_encode", tasks, partial(single, Encode, work))
    join = CorpusJob("chats_join", len(work.sets), partial(single, Join, work))
    return [*(items if any(made_of.items for made_of, _, _ in work.sets) else []), encode, join]


class Step(PipelineStep):
    type = "💬 - CHATS"

    def __init__(self, work: ChatsWork):
        super().__init__()
        self.work = work


class CountItems(Step):
    """How many rows of a piece hold each run of words of an evaluation item."""

    name = "evaluation items"

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        number, piece = self.work.pieces[rank]
        write(self.work.counts(rank), json.dumps(self.work.sets[number][0].runs_of_items([piece])))


class Encode(Step):
    """Samples of a piece, and what became of its rows."""

    name = "encode"

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        number, piece = self.work.pieces[rank]
        made_of, to, _ = self.work.sets[number]
        if to.exists() or self.work.part(rank).exists():
            return
        counts: Counter[str] = Counter()
        for task in self.work.tasks(number) if made_of.items else ():
            counts.update(json.loads(self.work.counts(task).read_text()))
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a process has one core
        report = made_of.report()
        with self.track_time(), whole(self.work.part(rank)) as folder:
            template = _template(self.work.tokenizer, self.work.vocabulary)
            store.write(folder, made_of.samples([piece], template, counts, report))
            write(folder / "report.json", json.dumps(report.summary(), ensure_ascii=False))


class Join(Step):
    """The pieces of a set in its place, and its windows."""

    name = "join"

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        made_of, to, seed = self.work.sets[rank]
        parts = [self.work.part(task) for task in self.work.tasks(rank)]
        to.parent.mkdir(parents=True, exist_ok=True)
        with self.track_time(), open(to.with_name(f"{to.name}.lock"), "w") as lock:
            locks.take(lock)
            if not to.exists():
                report = made_of.report()
                for part in parts:
                    report.add(json.loads((part / "report.json").read_text()))
                with whole(to) as folder:
                    store.join(folder, parts)
                    sets.finish(folder, report)
        if seed is not None:
            packing.stored(store.read(to), made_of.seq_length, seed)


@lru_cache(1)
def _template(folder: Path, vocabulary: int) -> ChatTemplate:
    from transformers import AutoTokenizer

    return ChatTemplate(AutoTokenizer.from_pretrained(folder), vocabulary)
