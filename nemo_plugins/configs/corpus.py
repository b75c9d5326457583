"""From documents to training text, `recipes/data.py`. Shapes of the configuration; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING


class CorpusTask(StrEnum):
    """What `recipes/data.py` does."""

    clean = "clean"  # documents to training text and tokens
    train_quality = "train_quality"  # a quality classifier from text that is known to be good
    evaluate_quality = "evaluate_quality"  # a classifier on text that it has not seen
    apply_quality = "apply_quality"  # probabilities of every document, none dropped
    chats = "chats"  # the dialogues and pairs of `sft` and `dpo` to tokens, packed: what those stages look for


class CorpusEngine(StrEnum):
    """Where the stages run."""

    local = "local"  # all cores of this machine
    slurm = "slurm"  # job arrays, by datatrove's executor


class TextFiles(StrEnum):
    """What a document of a `.txt` file is."""

    line = "line"
    file = "file"


@dataclass
class QualityConfig:
    """The classifier of nemo_plugins.data.quality: LOW, MEDIUM, HIGH, with calibrated probabilities."""

    model: str | None = None  # folder of a trained one; none: no document is dropped for its quality
    minimum: float = MISSING  # P(HIGH) from which on a document stays
    good: list[str] = field(default_factory=list)  # train_quality: text that is HIGH
    foreign: list[str] = field(default_factory=list)  # train_quality: text in other languages, LOW, beyond what is made
    heldout: list[str] = field(default_factory=list)  # evaluate_quality: text that is HIGH and was not trained on
    leave_out: list[str] = field(default_factory=list)  # train_quality: values of `source` that are not trained on
    rounds: int = MISSING  # train_quality: trees of each class, at most
    depth: int = MISSING  # of a tree


@dataclass
class DuplicatesConfig:
    """MinHash-LSH; what each number does to recall stands in nemo_plugins/data/corpus/duplicates.py."""

    remove: bool = True
    shingle_words: int = MISSING
    buckets: int = MISSING
    hashes: int = MISSING


@dataclass
class DecontaminationConfig:
    items: list[str] = field(default_factory=list)  # evaluation sets, JSONL or `hf:` names; none: nothing is looked for
    fields: list[str] = field(default_factory=list)  # of an item; none: question, passage and the like, and every long text
    ngram: int = MISSING  # words in a row that give an item away
    common: int = MISSING  # documents: words in a row that more of them hold are boilerplate, unless they are the whole item


@dataclass
class SlurmConfig:
    """Job arrays of `corpus.engine=slurm`."""

    partition: str | None = None
    time: str = MISSING  # of a job, hours:minutes:seconds; a job has several tasks where a stage has more than 1,000
    memory_gb: int = MISSING  # of a core
    cores: int = MISSING  # of the stage that makes tokens
    qos: str | None = None
    account: str | None = None
    at_once: int = -1  # tasks that run at the same time; -1: as many as the cluster has room for
    setup: str = ""  # shell command before each task, e.g. `module load python`


@dataclass
class CorpusConfig:
    task: CorpusTask = CorpusTask.clean
    sources: list[str] = field(default_factory=list)  # files, folders, or `hf:<dataset>[:<configuration>[:<split>]]`
    text_files: TextFiles = TextFiles.line
    longest_mib: int = MISSING  # a longer document is counted and skipped
    part_mib: int = MISSING  # text of a task, which is what a stage that was killed does again
    language_minimum: float | None = MISSING  # probability of the language from which on a document stays; null: not asked
    quality: QualityConfig = field(default_factory=QualityConfig)
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    decontamination: DecontaminationConfig = field(default_factory=DecontaminationConfig)
    mask: bool = True  # personal data: the language's identifiers
    heldout_share: float = MISSING  # of the documents
    heldout_similarity: float = MISSING  # Jaccard similarity to a held-out document from which on one is not trained on
    tokens: bool = True  # by the model's tokenizer
    samples: int = MISSING  # dropped documents to be read by a person, of each reason and task
    keep_work: bool = False  # the files between the stages
    engine: CorpusEngine = CorpusEngine.local
    workers: int | None = None  # processes; default: one for each core
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
