"""From documents to training text: the stages in their order, their run, and what they leave."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs.schema import CorpusEngine, Recipe
from nemo_plugins.data.corpus import duplicates, execute, sources, steps
from nemo_plugins.data.corpus.contamination import load_items
from nemo_plugins.data.corpus.duplicates import CorpusJob, single
from nemo_plugins.data.corpus.steps import MIB, Folders
from nemo_plugins.runs import paths


def run(cfg: Recipe, run: runs.Run) -> None:
    """Do all that is not done yet; the last is the report."""
    from nemo_plugins.reporting import corpus_report

    if not run.is_writer:
        return
    folders, logs = Folders(run.folder), run.folder / "logs"
    execute.run(stages(cfg, folders, prepare(cfg, run, folders)), logs, cfg)
    counted = corpus_report.Found.collect(folders, cfg.corpus)
    if not counted.count("divide", "out"):
        raise runs.Failed("no document is left to train on", f"read {run.folder / 'report.html'}: it says what was dropped",
                          f"{corpus_report.write(run.folder, cfg, counted)['report']}")  # fmt: skip
    outputs = {"train": folders.out("train"), "heldout": folders.out("heldout")}
    if cfg.corpus.tokens:
        outputs |= {f"{side}_tokens": run.folder / "tokens" / side for side in ("train", "heldout")}
    outputs |= corpus_report.write(run.folder, cfg, counted)
    if not cfg.corpus.keep_work:
        work = ("signatures", "pairs", "documents", "removed")  # the summary and the samples stay: a kill here costs nothing
        parts = (run.folder / "work" / side for side in ("train", "heldout"))  # of tokens, which are joined now
        for folder in (folders.read, folders.unique, *parts, *(folders.duplicates / name for name in work)):
            shutil.rmtree(folder, ignore_errors=True)
    heldout = counted.count("finish", "heldout")
    if not heldout:
        share = cfg.corpus.heldout_share
        runs.say(f"no document is held out: give data.heldout another text, or a corpus.heldout_share above {share:g}")
    run.finish(outputs, counted.metrics(), next=_next(cfg, run.folder, bool(heldout)), counts=counted.flow())


def prepare(cfg: Recipe, run: runs.Run, folders: Folders) -> int:
    """Fetch data sets, list what each task reads, put the evaluation items in place. Returns the number of tasks."""
    corpus = cfg.corpus
    named = [
        sources.fetch(source, run.folder / "work" / "fetched") if sources.is_dataset(source) else source
        for source in corpus.sources
    ]
    made = sources.tasks(sources.parts(named, corpus.part_mib * MIB, corpus.text_files.value == "file"), corpus.part_mib * MIB)
    items = corpus.decontamination.items
    read = [runs.resolve(path) for path in (*named, *(item for item in items if not sources.is_dataset(item)))]
    read += [runs.resolve(corpus.quality.model)] if corpus.quality.model else []
    read += [paths.weights_of(cfg.model.path, "model.path") / "tokenizer.json"] if corpus.tokens else []
    for path in read:
        if path.exists():  # what is not is refused below, by its key
            run.input(path, kept=True)
    sources.save(folders.parts, made)
    for number, item in enumerate(items):
        sources.save_items(item, folders.items, number, run.folder / "work" / "fetched")
    load_items(sorted(folders.items.glob("*.jsonl*")), corpus.decontamination.fields)  # a plan cannot see those of the hub
    return len(made)


def stages(cfg: Recipe, folders: Folders, tasks: int) -> list[CorpusJob]:
    """All stages; each `pipeline` can be pickled."""
    corpus, language, seed = cfg.corpus, cfg.language, cfg.run.seed
    model = str(runs.resolve(corpus.quality.model)) if corpus.quality.model else None
    jobs = [CorpusJob("read", tasks, partial(single, steps.Clean, folders, corpus, language, model))]
    stored = partial(single, steps.Stored, folders.read)
    finish = partial(single, steps.Finish, folders, corpus, language, seed)
    if corpus.duplicates.remove:
        jobs += duplicates.stages(stored, finish, str(folders.duplicates), tasks, corpus.duplicates)
    else:
        jobs.append(CorpusJob("finish", tasks, partial(_joined, stored, finish)))
    jobs.append(CorpusJob("divide", tasks, partial(single, steps.Divide, folders, corpus)))
    if corpus.tokens:
        processes = corpus.slurm.cores if corpus.engine is CorpusEngine.slurm else corpus.workers
        folder = str(paths.weights_of(cfg.model.path, "model.path"))
        jobs.append(CorpusJob("tokens", 1, partial(single, steps.Tokenise, folders, folder, processes)))
    return jobs


def _joined(first, last) -> list:
    return [*first(), *last()]


def _next(cfg: Recipe, folder: Path, heldout: bool) -> str:
    text = folder / "tokens" if cfg.corpus.tokens else folder
    sides = ("train", "heldout") if heldout else ("train",)
    return runs.command(cfg, "distill", *(runs.override(f"data.{side}", [text / side]) for side in sides))
