"""What became of the documents: counts by reason, pictures, and dropped documents for a person to read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nemo_plugins.configs.schema import CorpusConfig, Recipe
from nemo_plugins.data.corpus import reading
from nemo_plugins.data.corpus.document_counts import DocumentCounts, merged
from nemo_plugins.data.corpus.steps import Folders
from nemo_plugins.reporting.page import PageTable, Picture, Section, page
from nemo_plugins.runs.folder import write as write_whole

SHOWN, CHARACTERS = 5, 300  # of the samples in the page; all of them are in dropped.jsonl
REASONS = {
    **reading.REASONS,
    "language": "another language",
    "quality": "P(HIGH) below corpus.quality.minimum",
    "exact": "the same text, but for case and white space, came before",
    "near": "a near-duplicate came before",
    "evaluation": "holds an evaluation item",
    "near_heldout": "a near-duplicate of a held-out document",
    "heldout": "held out: kept, but not trained on",
}
STAGES = {  # of the flow, with the reasons that each may have
    "read": (*reading.REASONS, "language", "quality"),
    "duplicates": ("exact", "near"),
    "finish": ("evaluation", "heldout"),
    "divide": ("evaluation", "near_heldout"),
}


@dataclass(frozen=True)
class Found:
    """What the stages have counted; `duplicates` is MinHash's summary, empty where duplicates were not looked for."""

    tallies: dict[str, DocumentCounts]
    duplicates: dict

    @classmethod
    def collect(cls, folders: Folders, corpus: CorpusConfig) -> Found:
        """Add up what every task left."""
        counted = folders.root / "work" / "counts"
        tallies = {
            stage: merged(sorted((counted / stage).glob("*.json")), corpus.samples)
            for stage in ("read", "duplicates", "finish", "divide", "tokens")
        }
        summary = folders.duplicates / "summary.json"
        if not (corpus.duplicates.remove and summary.is_file()):
            return cls(tallies, {})
        for file in sorted((folders.duplicates / "samples").glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines():
                sample = json.loads(line)
                kept = tallies["duplicates"].samples[sample["reason"]]
                if len(kept) < corpus.samples:
                    kept.append({"id": sample["id"], "detail": sample["duplicate_of"], "text": sample["text"]})
        content = json.loads(summary.read_text())
        counts = {"in": content["documents"], "exact": content["exact"], "near": content["near"], "out": content["kept"]}
        tallies["duplicates"].counts.update(counts)
        return cls(tallies, content)

    def count(self, stage: str, name: str) -> int:
        return self.tallies[stage].counts[name]

    def flow(self) -> dict[str, dict[str, int]]:
        """By stage: `in`, every reason that occurred, `out`; in is the sum of the others."""
        rows = {}
        for stage, reasons in STAGES.items():
            counts = self.tallies[stage].counts
            if stage == "duplicates" and not self.duplicates:
                continue
            given = {"in": counts["in"]} | {reason: counts[reason] for reason in reasons if counts[reason]}
            rows[stage] = given | {"out": counts["out"]}
        return rows

    def metrics(self) -> dict[str, float]:
        """What sums the stage up."""
        numbers = {
            "documents_in": self.count("read", "in"),
            "train_documents": self.count("divide", "out"),
            "heldout_documents": self.count("finish", "heldout"),
            "kept_share": self.count("divide", "out") / max(1, self.count("read", "in")),
        }
        tokens = self.tallies["tokens"].counts
        return numbers | {name: tokens[name] for name in ("train_tokens", "heldout_tokens") if name in tokens}


def write(folder: Path, cfg: Recipe, counted: Found) -> dict[str, Path]:
    """Write `report.html`, `dropped.jsonl` and the pictures. Returns what was written, by name."""
    from nemo_plugins.reporting import corpus_plots  # matplotlib is slow to import

    plots, corpus = folder / "plots", cfg.corpus
    read, finish = counted.tallies["read"], counted.tallies["finish"]
    histograms = {
        "read": read.histograms["characters_in"],
        "in the language and good": read.histograms["characters_out"],
        "trained on": counted.tallies["divide"].histograms["characters"],
    }
    sections = [
        Section("What became of the documents", [_flow(counted)]),
        Section("Length", [Picture(corpus_plots.lengths(plots / "lengths.png", histograms), "documents by their characters")]),
    ]
    if read.histograms["language"]:
        picture = corpus_plots.shares(
            plots / "language.png",
            read.histograms["language"],
            corpus.language_minimum,
            f"Is it {cfg.language.name}?",
            f"P({cfg.language.code})",
        )
        ranked = read.named["languages"].most_common(12)
        sections.append(Section("Language", [Picture(picture, "documents by the probability of the language"),
                                             PageTable(["likeliest language", "documents"], ranked)]))  # fmt: skip
    if read.histograms["quality"]:
        picture = corpus_plots.shares(
            plots / "quality.png", read.histograms["quality"], corpus.quality.minimum, "Quality", "P(HIGH)"
        )
        sections.append(Section("Quality", [Picture(picture, "documents by the probability that they are of high quality")]))
    if counted.duplicates:
        sizes = {int(size): count for size, count in counted.duplicates["cluster_sizes"].items()}
        picture = corpus_plots.clusters(plots / "duplicates.png", sizes)
        sections.append(Section("Duplicates", [Picture(picture, "clusters of duplicates by their size")]))
    sections += _named(cfg, counted)
    samples = [
        (reason, sample)
        for stage in STAGES
        for reason, kept in counted.tallies[stage].samples.items()
        for sample in kept
    ]  # fmt: skip
    sections += _samples(samples)
    lines = (json.dumps({"reason": reason} | sample, ensure_ascii=False) + "\n" for reason, sample in samples)
    write_whole(folder / "dropped.jsonl", "".join(lines))
    trained, came = counted.count("divide", "out"), counted.count("read", "in")
    lead = [
        f"{came:,} documents came in, {trained:,} are training text ({trained / max(1, came):.1%}), "
        f"{finish.counts['heldout']:,} are held out. Every other one is counted below under the first reason that met it."
    ]
    report = page(folder / "report.html", f"corpus {cfg.run.name}: {cfg.language.name}", lead, sections)
    return {"report": report, "dropped": folder / "dropped.jsonl"}


def _flow(counted: Found) -> PageTable:
    rows = []
    for stage, counts in counted.flow().items():
        for name, count in counts.items():
            what = {"in": "came in", "out": "went on"}.get(name) or REASONS[name]
            rows.append((stage, name, what, count, f"{count / max(1, counts['in']):.1%}"))
    return PageTable(["stage", "", "what", "documents", "share"], rows)


def _named(cfg: Recipe, counted: Found) -> list[Section]:
    finish, sections = counted.tallies["finish"], []
    if cfg.corpus.mask:
        rows = sorted(finish.named["masked"].items(), key=lambda pair: -pair[1])
        what = f"{finish.counts['documents_masked']:,} documents held some of: {', '.join(cfg.language.identifiers)}."
        sections.append(Section("Personal data masked", [what, *([PageTable(["what", "masked"], rows)] if rows else [])]))
    if cfg.corpus.decontamination.items:
        unchecked = finish.counts["unchecked_items"]
        held = finish.counts["evaluation"] + counted.count("divide", "evaluation")
        what = f"{held:,} documents held an evaluation item. {unchecked:,} items are too short to look for."
        rows = (finish.named["evaluation_items"] + counted.tallies["divide"].named["evaluation_items"]).most_common(20)
        sections.append(
            Section("Evaluation items", [what, *([PageTable(["item, its beginning", "documents"], rows)] if rows else [])])
        )
    broken = [
        [sample["id"], reason, sample["text"][:CHARACTERS]]
        for reason in reading.REASONS
        for sample in counted.tallies["read"].samples.get(reason, ())
    ]
    if broken:
        sections.append(Section("Could not be read", [PageTable(["where", "reason", "what was there"], broken)]))
    return sections


def _samples(samples: list[tuple[str, dict[str, str]]]) -> list[Section]:
    sections = []
    for reason in dict.fromkeys(reason for reason, _ in samples):
        if reason in reading.REASONS:
            continue
        rows = [
            [sample["id"], sample["detail"][:CHARACTERS], sample["text"][:CHARACTERS]]
            for name, sample in samples
            if name == reason
        ]
        sections.append(Section(f"Dropped: {REASONS[reason]}", [PageTable(["document", "why", "its beginning"], rows[:SHOWN])]))
    return sections
