"""The steps of a corpus as datatrove runs them, one task at a time: each reads whole files of the step before.

A task writes every file under a temporary name first and its counts last; run again it writes the same bytes. Nothing here
depends on the number of processes or on their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from nemo_plugins.configs.schema import CorpusConfig, LanguageConfig
from nemo_plugins.data.batches import batches
from nemo_plugins.data.corpus import reading, sources, stores
from nemo_plugins.data.corpus.contamination import Contamination, load_items
from nemo_plugins.data.corpus.document_counts import DocumentCounts, merged, share_bin
from nemo_plugins.data.corpus.normalise import normalise
from nemo_plugins.data.corpus.split import HeldoutGuard, is_heldout
from nemo_plugins.data.personal.mask import mask

BATCH, BATCH_CHARACTERS = 256, 4 << 20  # documents that the classifier sees at once, and of how much text
MIB = 1 << 20
RUNS = "evaluation_runs"  # of an item's words in a document that does not hold the item whole


@dataclass(frozen=True)
class Folders:
    """Where the stages of one run write, all below its folder."""

    root: Path

    @property
    def parts(self) -> Path:
        return self.root / "work" / "parts.json"

    @property
    def items(self) -> Path:
        return self.root / "work" / "items"

    @property
    def read(self) -> Path:
        return self.root / "work" / "read"

    @property
    def duplicates(self) -> Path:
        return self.root / "work" / "duplicates"

    @property
    def unique(self) -> Path:
        return self.root / "work" / "unique"

    def counts(self, stage: str, task: int) -> Path:
        return self.root / "work" / "counts" / stage / f"{task:05d}.json"

    def out(self, side: str) -> Path:
        """`train` or `heldout`."""
        return self.root / side


@dataclass
class Judged:
    """A document on its way through the first stage."""

    id: str
    text: str
    source: str
    high: float | None = field(default=None)


class Clean(PipelineStep):
    """Reads a task's parts, normalises, and keeps what is in the language and of high quality.

    Counts `read`: `in`, the reasons of `reading.REASONS`, `language`, `quality`, `out`.
    """

    type, name = "🧹 - CLEAN", "read and judge"

    def __init__(self, folders: Folders, corpus: CorpusConfig, language: LanguageConfig, model: str | None):
        super().__init__()
        self.folders = folders
        self.corpus = corpus
        self.language = language
        self.model = model

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        from nemo_plugins.data.corpus.languages import LanguageFilter
        from nemo_plugins.data.quality.classifier import Classifier

        tally = DocumentCounts(self.corpus.samples)
        classifier = Classifier.load(self.model, self.language) if self.model else None
        languages = LanguageFilter(self.language) if self.corpus.language_minimum is not None else None
        with self.track_time(), stores.Store(stores.path(self.folders.read, rank)) as store:
            texts = self._texts(sources.load(self.folders.parts)[rank], tally)
            spoken = self._in_language(texts, languages, tally) if languages else texts
            for one in self._good(spoken, classifier, tally) if classifier else spoken:
                tally.counts["out"] += 1
                tally.length("characters_out", one.text)
                record = {"id": one.id, "text": one.text, "source": one.source}
                store.write(record if one.high is None else record | {"quality": round(one.high, 4)})
                self.stat_update("forwarded")
        tally.save(self.folders.counts("read", rank))

    def _texts(self, parts: Iterable[reading.TaskInput], tally: DocumentCounts) -> Iterator[Judged]:
        for part in parts:
            for one in reading.read(part, self.corpus.longest_mib * MIB):
                tally.counts["in"] += 1
                if isinstance(one, reading.Rejected):
                    tally.drop(one.reason, one.id, one.excerpt)
                    continue
                text = normalise(one.text, self.language.replace)
                tally.length("characters_in", text)
                if text:
                    yield Judged(one.id, text, one.source)
                else:
                    tally.drop("empty", one.id, "")

    def _in_language(self, documents: Iterable[Judged], languages, tally: DocumentCounts) -> Iterator[Judged]:
        for one in documents:
            probability, likeliest = languages.look(one.text)
            tally.histograms["language"][share_bin(probability)] += 1
            tally.named["languages"][likeliest] += 1
            if probability >= self.corpus.language_minimum:
                yield one
            else:
                tally.drop("language", one.id, one.text, f"{likeliest}, P({self.language.code}) = {probability:.2f}")

    def _good(self, documents: Iterable[Judged], classifier, tally: DocumentCounts) -> Iterator[Judged]:
        minimum = self.corpus.quality.minimum
        for batch in batches(documents, BATCH, BATCH_CHARACTERS, lambda one: len(one.text)):
            for one, (low, medium, high) in zip(batch, classifier.probabilities([one.text for one in batch]), strict=True):
                tally.histograms["quality"][share_bin(high)] += 1
                if high >= minimum:
                    one.high = float(high)
                    yield one
                else:
                    tally.drop("quality", one.id, one.text, f"P(LOW, MEDIUM, HIGH) = {low:.2f}, {medium:.2f}, {high:.2f}")


class Stored(PipelineStep):
    """Gives the documents that a task of the first stage left. Their `file_path` puts them in the order of the input."""

    type, name = "📖 - READER", "stored"

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        for record in stores.records(stores.path(self.folder, rank)):
            yield Document(record["text"], record["id"], metadata={"file_path": f"{rank:06d}", "record": record})


class Finish(PipelineStep):
    """Drops what holds a whole evaluation item and notes which runs of others' words a document holds; masks personal data and
    says which documents are held out.

    Counts `finish`: `in`, `evaluation`, `heldout`, `out` (to `unique`, for training).
    """

    type, name = "🔏 - FINISH", "decontaminate and mask"

    def __init__(self, folders: Folders, corpus: CorpusConfig, language: LanguageConfig, seed: int):
        super().__init__()
        self.folders = folders
        self.corpus = corpus
        self.language = language
        self.seed = seed

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        corpus, tally = self.corpus, DocumentCounts(self.corpus.samples)
        items = load_items(sorted(self.folders.items.glob("*.jsonl*")), corpus.decontamination.fields)
        contamination = Contamination(items, corpus.decontamination.ngram)
        names = self.language.identifiers if corpus.mask else []
        with (
            stores.Store(stores.path(self.folders.unique, rank)) as unique,
            stores.Store(stores.path(self.folders.out("heldout"), rank)) as heldout,
        ):
            for document in data or ():
                tally.counts["in"] += 1
                whole, runs = contamination.overlap(document.text)
                if whole:
                    _evaluation(tally, document.id, document.text, contamination.items[min(whole)])
                    continue
                tally.named[RUNS].update(runs.keys())
                text, found = mask(document.text, names)
                tally.named["masked"].update(found)
                tally.counts["documents_masked"] += bool(found)
                held = is_heldout(text, corpus.heldout_share, self.seed) and not runs  # `divide` decides about those
                tally.counts["heldout" if held else "out"] += 1
                record = document.metadata["record"] | {"text": text}
                named = {run: contamination.items[owner] for run, owner in runs.items()}
                (heldout if held else unique).write(record | ({RUNS: named} if runs else {}))
                self.stat_update("forwarded")
        tally.counts["unchecked_items"] = len(contamination.unchecked) if rank == 0 else 0
        tally.save(self.folders.counts("finish", rank))


class Divide(PipelineStep):
    """Writes the training text: what is left without parts of evaluation items and near-duplicates of held-out documents.

    Runs of an item's words that more than `corpus.decontamination.common` documents hold are no reason.
    Counts `divide`: `in`, `evaluation`, `near_heldout`, `out`.
    """

    type, name = "🪓 - DIVIDE", "keep from held-out text"

    def __init__(self, folders: Folders, corpus: CorpusConfig):
        super().__init__()
        self.folders, self.corpus = folders, corpus

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        tally = DocumentCounts(self.corpus.samples)
        heldout = sorted(self.folders.out("heldout").glob("*.jsonl.zst"))
        counted = merged(sorted(self.folders.counts("finish", 0).parent.glob("*.json")), 0).named[RUNS]
        common = self.corpus.decontamination.common
        ids: list[str] = []
        guard = HeldoutGuard(_texts(heldout, ids), self.corpus.heldout_similarity)
        with self.track_time(), stores.Store(stores.path(self.folders.out("train"), rank)) as store:
            for record in stores.records(stores.path(self.folders.unique, rank)):
                tally.counts["in"] += 1
                rare = (item for run, item in record.pop(RUNS, {}).items() if counted[run] <= common)
                if (item := next(rare, None)) is not None:
                    _evaluation(tally, record["id"], record["text"], item)
                    continue
                if near := guard.near(record["text"]):
                    detail = f"{ids[near[0]]}, Jaccard similarity {near[1]:.2f}"
                    tally.drop("near_heldout", record["id"], record["text"], detail)
                    continue
                tally.counts["out"] += 1
                tally.counts["characters"] += len(record["text"])
                tally.length("characters", record["text"])
                store.write(record)
                self.stat_update("forwarded")
        tally.save(self.folders.counts("divide", rank))


class Tokenise(PipelineStep):
    """Training and held-out text to Megatron `.bin/.idx`, by all cores that this one task has.

    Counts `tokens`: `train_documents`, `train_tokens`, `heldout_documents`, `heldout_tokens`.
    """

    type, name = "🔢 - TOKENS", "tokenise"

    def __init__(self, folders: Folders, tokenizer: str, processes: int | None = None):
        super().__init__()
        self.folders = folders
        self.tokenizer = tokenizer
        self.processes = processes

    def run(self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1) -> None:
        from transformers import AutoTokenizer

        from nemo_plugins.data import parallel_tokens, tokens

        tokenizer, tally = AutoTokenizer.from_pretrained(self.tokenizer), DocumentCounts()
        (self.folders.root / "tokens").mkdir(exist_ok=True)
        for side in ("train", "heldout"):
            folder, prefix = self.folders.out(side), self.folders.root / "tokens" / side
            if parallel_tokens.is_worth(folder):
                written = parallel_tokens.write(prefix, folder, tokenizer, self.folders.root / "work" / side, self.processes)
            else:
                written = tokens.write(prefix, tokens.documents(folder), tokenizer)
            tally.counts[f"{side}_documents"], tally.counts[f"{side}_tokens"] = written.documents, written.tokens
        tally.save(self.folders.counts("tokens", rank))


def _evaluation(tally: DocumentCounts, id: str, text: str, item: str) -> None:
    tally.drop("evaluation", id, text, item)
    tally.named["evaluation_items"][item[:200]] += 1


def _texts(files: Iterable[Path], ids: list[str]) -> Iterator[str]:
    """Texts of stores; their ids go to `ids`."""
    for file in files:
        for record in stores.records(file):
            ids.append(record["id"])
            yield record["text"]
