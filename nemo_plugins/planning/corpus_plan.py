"""What `recipes/data.py` would do with documents."""

from __future__ import annotations

import json
import re
import shlex
import shutil

from nemo_plugins.configs.schema import CorpusEngine, CorpusTask, Recipe
from nemo_plugins.data import documents
from nemo_plugins.data.corpus.contamination import load_items
from nemo_plugins.data.personal import identifiers
from nemo_plugins.planning import checks
from nemo_plugins.planning.numbers import at_least
from nemo_plugins.planning.plan import Plan, Table, gib
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError

UNPACKED = 3  # how much larger text is than its compressed file
WORK = 2.5  # bytes between and after the stages for a byte of text, MinHash's signatures (1.1 kB a document) included
PLAIN = re.compile(r"[\w.:,=/@+-]+")  # goes into a job script


def stage(cfg: Recipe) -> str:
    """Folder of the stage where `run.stage` names none."""
    return "data" if cfg.corpus.task is CorpusTask.clean else cfg.corpus.task.value.replace("_", "-")


def plan(cfg: Recipe) -> Plan:
    """Validate what is asked of a corpus. Raises UserError naming the key."""
    checks.single_process(cfg.platform, "recipes/data.py has processes of its own (corpus.workers) and")
    numbers(cfg)
    if cfg.corpus.task is CorpusTask.clean:
        return _clean(cfg)
    return _quality(cfg)


def numbers(cfg: Recipe) -> None:
    """Raises UserError where a number of `corpus` is out of bounds."""
    corpus = cfg.corpus
    at_least(1, corpus, "corpus", "longest_mib", "part_mib", "workers", "quality.rounds", "quality.depth")
    at_least(1, corpus.duplicates, "corpus.duplicates", "shingle_words", "buckets", "hashes")
    at_least(0, corpus, "corpus", "samples")
    if corpus.decontamination.ngram < 2:
        raise UserError(f"corpus.decontamination.ngram={corpus.decontamination.ngram}: expected 2 words or more", "13 is usual")
    if corpus.decontamination.common < 1:
        raise UserError(
            f"corpus.decontamination.common={corpus.decontamination.common}: expected 1 document or more", "10 is usual"
        )
    shares = {"heldout_share": corpus.heldout_share, "quality.minimum": corpus.quality.minimum,
              "language_minimum": corpus.language_minimum, "heldout_similarity": corpus.heldout_similarity}  # fmt: skip
    for key, share in shares.items():
        if share is not None and not 0 <= share <= 1:
            raise UserError(f"corpus.{key}={share:g}: expected a number from 0 to 1")
    if corpus.heldout_similarity == 0:
        raise UserError("corpus.heldout_similarity=0: every document would be too near", "0.7 is usual")


def _clean(cfg: Recipe) -> Plan:
    corpus = cfg.corpus
    made = Plan(f"data {cfg.run.name}: documents to {cfg.language.name} training text")
    size = _sources(made, cfg)
    quality = _model(made, cfg)
    for item in corpus.decontamination.items:
        if not item.startswith("hf:"):
            made.need("data", items, item, corpus.decontamination.fields)
    if not corpus.decontamination.items:
        made.warnings.append(
            "corpus.decontamination.items names no evaluation sets: what the model will be measured by may be in its text"
        )
    for name in cfg.language.identifiers if corpus.mask else ():
        identifiers.get(name)
    if corpus.tokens:
        made.need("weights", _tokenizer, cfg)
    if corpus.engine is CorpusEngine.slurm:
        slurm(made, cfg)
    folder = paths.run_root(cfg) / (cfg.run.stage or "data")
    made.need("disk", checks.disk, folder, size * WORK)
    evaluation = f"{len(corpus.decontamination.items)} evaluation sets, {corpus.decontamination.ngram} words in a row"
    rows = [
        ("read", f"{', '.join(corpus.sources) or 'nothing'}: about {gib(size)} of text"),
        ("normalise", "encoding mended (ftfy), NFC, white space, control characters"),
        ("language", _or_not(corpus.language_minimum, f"{cfg.language.name} with P >= {corpus.language_minimum}")),
        ("quality", _or_not(quality, f"P(HIGH) >= {corpus.quality.minimum:g} by {quality}")),
        ("duplicates", _or_not(corpus.duplicates.remove, f"exact and MinHash: {corpus.duplicates.buckets} x "
         f"{corpus.duplicates.hashes} hashes of runs of {corpus.duplicates.shingle_words} words")),
        ("evaluation", _or_not(corpus.decontamination.items, evaluation)),
        ("personal data", _or_not(corpus.mask, ", ".join(cfg.language.identifiers))),
        ("held out", f"{corpus.heldout_share:.2%}; near-duplicates of it (Jaccard {corpus.heldout_similarity:g}) dropped"),
        ("tokens", _or_not(corpus.tokens, f"{cfg.model.name}'s tokenizer, Megatron .bin/.idx")),
        ("runs on", "Slurm" if corpus.engine is CorpusEngine.slurm else f"this machine, {corpus.workers or 'all'} cores"),
        ("writes", f"{folder}, about {gib(size * WORK)} while it runs"),
    ]  # fmt: skip
    made.tables.append(Table("Stages", rows, numbers=False))
    made.sizes = f"about {gib(size)} of text"
    return made


def _or_not(asked: object, what: str) -> str:
    return what if asked else "not asked for"


def _sources(made: Plan, cfg: Recipe) -> float:
    """Check that sources are named and here. Returns about how many bytes of text they hold."""
    sources = cfg.corpus.sources
    if not sources:
        given = ", ".join(documents.SUFFIXES)
        made.lack(
            "data", "corpus.sources names no documents", f"give corpus.sources=[<file or folder>]: {given}, or hf:<data set>"
        )
    size = 0.0
    for source in sources:
        if not source.startswith("hf:"):
            size += made.need("data", _text, source, "corpus.sources") or 0
    return size


def _text(source: str, key: str) -> float:
    path = paths.resolve(source)
    if not path.exists():
        raise UserError(
            f"{key}: no file or folder {source}", "relative paths start at the current directory, assets/… at the repository"
        )
    if path.is_file() and not path.name.endswith(documents.SUFFIXES):
        raise UserError(f"{key}: {source} is no text", f"expected {', '.join(documents.SUFFIXES)}, or a folder of them")
    packed = (*documents.COMPRESSED, ".parquet")
    return float(sum(file.stat().st_size * (UNPACKED if file.suffix in packed else 1) for file in documents.shards(path)))


def _file(path: str, key: str) -> None:
    if not paths.resolve(path).is_file():
        raise UserError(f"{key}: no file {path}", "expected JSONL, an item a line")


def items(path: str, fields: list[str]) -> None:
    """A mistake in them is told before any stage, not by the one that takes them out."""
    _file(path, "corpus.decontamination.items")
    load_items([paths.resolve(path)], fields)


def _model(made: Plan, cfg: Recipe) -> str | None:
    """The classifier's folder, checked; None where none is named."""
    named = cfg.corpus.quality.model
    if named is None:
        made.warnings.append(
            f"no quality classifier for {cfg.language.name}: no document is dropped for its quality "
            "(corpus.task=train_quality makes one, corpus.quality.model names it)"
        )
        return None
    folder = paths.resolve(named)
    if not (folder / "classifier.json").is_file():
        raise UserError(
            f"corpus.quality.model: no classifier in {named}",
            "expected what corpus.task=train_quality leaves, or null",
        )
    code = json.loads((folder / "classifier.json").read_text())["language"]
    if code != cfg.language.code:
        raise UserError(
            f"corpus.quality.model={named} is of {code}, the text is {cfg.language.code}",
            "train one for the language (corpus.task=train_quality), or null for none",
        )
    return named


def _tokenizer(cfg: Recipe) -> None:
    if not cfg.model.path:
        raise UserError("model.path is not given", "expected the folder that holds the tokenizer, or corpus.tokens=false")
    folder = paths.local_weights(cfg.model.path)
    if folder is None:
        raise UserError(paths.weights_missing("model.path", cfg.model.path), "or stop before tokens: corpus.tokens=false")
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"model.path: {folder} has no tokenizer.json", "expected the model's tokenizer, or corpus.tokens=false")


def slurm(made: Plan, cfg: Recipe) -> None:
    """What goes into job scripts is plain, and there is a cluster. Raises UserError."""
    asked = cfg.corpus.slurm
    if not asked.partition:
        raise UserError(
            "corpus.engine=slurm without corpus.slurm.partition", "expected a partition of the cluster (sinfo lists them)"
        )
    for key in ("partition", "time", "qos", "account"):
        value = getattr(asked, key)
        if value is not None and not PLAIN.fullmatch(value):
            raise UserError(
                f"corpus.slurm.{key}={value!r} cannot go into a job script", "expected letters, digits and . : , = / @ + -"
            )
    folder = str((paths.run_root(cfg)).resolve())
    if shlex.quote(folder) != folder:  # datatrove writes it into its script as it is
        raise UserError(f"run.root: {folder} has characters that a shell would read otherwise", "choose a plain path")
    if not shutil.which("sbatch"):
        made.lack("device", "corpus.engine=slurm: no sbatch on this machine", "run it on a login node")


def _quality(cfg: Recipe) -> Plan:
    quality, task = cfg.corpus.quality, cfg.corpus.task
    made = Plan(f"{task.value.replace('_', ' ')} {cfg.run.name}: {cfg.language.name}")
    key = {CorpusTask.train_quality: "quality.good", CorpusTask.evaluate_quality: "quality.heldout"}.get(task)
    if key:
        named = quality.good if task is CorpusTask.train_quality else quality.heldout
        if not named:
            raise UserError(f"corpus.{key} names no text", "expected text whose quality is known to be high")
        for source in [*named, *(quality.foreign if task is CorpusTask.train_quality else [])]:
            made.need("data", _text, source, f"corpus.{key}")
    else:
        _sources(made, cfg)
    if task is not CorpusTask.train_quality and _model(made, cfg) is None:
        raise UserError(f"corpus.task={task.value} without corpus.quality.model", "expected the folder of a classifier")
    rows = [("task", task.value), ("text", ", ".join(named if key else cfg.corpus.sources)), ("language", cfg.language.name)]
    made.tables.append(Table("Quality", rows, numbers=False))
    return made
