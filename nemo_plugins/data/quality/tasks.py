"""What `recipes/data.py` does with a quality classifier: train it, measure it, apply it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs import language, options
from nemo_plugins.configs.schema import CorpusTask, Recipe
from nemo_plugins.data.batches import batches
from nemo_plugins.data.corpus import reading, sources, stores
from nemo_plugins.data.corpus.normalise import normalise
from nemo_plugins.data.corpus.steps import BATCH, MIB
from nemo_plugins.data.quality import examples, training
from nemo_plugins.data.quality.classifier import CLASSES, Classifier
from nemo_plugins.data.quality.features import Extractor

LEAST = 30  # documents that a classifier can be trained or measured on


def run(cfg: Recipe, run: runs.Run) -> None:
    """One of the three."""
    if run.is_writer:
        {CorpusTask.train_quality: _train, CorpusTask.evaluate_quality: _evaluate, CorpusTask.apply_quality: _apply}[
            cfg.corpus.task
        ](cfg, run)


def _train(cfg: Recipe, run: runs.Run) -> None:
    quality, seed = cfg.corpus.quality, cfg.run.seed
    good = [one for one in _documents(cfg, run, quality.good) if one.source not in quality.leave_out]
    if len(good) < LEAST:
        raise runs.UserError(f"corpus.quality.good: {len(good)} documents", f"expected {LEAST} or more, a thousand is better")
    material = _material(cfg, run, [one.text for one in good])
    sides = training.split(material.good, seed)
    sets = {side: examples.make(material, numbers, seed + place) for place, (side, numbers) in enumerate(sides.items())}
    runs.say(f"{sum(map(len, sets.values())):,} examples of {len(good):,} good documents")
    about = {
        "language": cfg.language.code,
        "good": {"documents": len(good), "sources": quality.good, "left_out": quality.leave_out},
        "foreign": quality.foreign,
        "seed": seed,
    }
    rounds, depth = quality.rounds, quality.depth
    classifier = training.train(sets, Extractor(cfg.language), about, rounds=rounds, depth=depth, seed=seed)
    classifier.save(run.folder / "model")
    # on the documents that it was calibrated on, which no tree has seen: a first look, not the measurement
    measured = training.measure(classifier, sets["calibrate"], quality.minimum)
    metrics = {"precision": measured.precision, "recall": measured.recall, "trees": classifier.about["trees"]}
    model = run.folder / "model"
    follow = runs.command(cfg, "data", "corpus.task=evaluate_quality", runs.override("corpus.quality.model", model))
    run.finish({"model": model}, metrics, next=follow, measured=asdict(measured))


def _evaluate(cfg: Recipe, run: runs.Run) -> None:
    from nemo_plugins.reporting import quality_report

    quality = cfg.corpus.quality
    classifier = Classifier.load(run.input(runs.resolve(str(quality.model))), cfg.language)
    good = list(_documents(cfg, run, quality.heldout))
    if len(good) < LEAST:
        raise runs.UserError(f"corpus.quality.heldout: {len(good)} documents", f"expected {LEAST} or more")
    material = _material(cfg, run, [one.text for one in good])
    sets = examples.make(material, range(len(good)), cfg.run.seed + len(training.SPLIT))
    measured = training.measure(classifier, sets, quality.minimum)
    by_source = _kept(classifier, good, quality.minimum)
    outputs = quality_report.write(run.folder, cfg.language.name, measured, by_source, classifier.about)
    names = ("precision", "recall", "calibration_error", "uncalibrated_error", "log_loss")
    metrics = {name: getattr(measured, name) for name in names}
    follow = runs.command(cfg, "data", "corpus.task=clean", runs.override("corpus.quality.model", quality.model))
    run.finish(outputs, metrics, next=follow, measured=asdict(measured), sources=by_source)


def _apply(cfg: Recipe, run: runs.Run) -> None:
    classifier = Classifier.load(runs.resolve(str(cfg.corpus.quality.model)), cfg.language)
    counts = dict.fromkeys(("documents", "kept"), 0)
    to = run.folder / "quality.jsonl.zst"
    with stores.Store(to) as store:
        for batch in batches(_documents(cfg, run, cfg.corpus.sources), BATCH):
            for one, chances in zip(batch, classifier.probabilities([one.text for one in batch]), strict=True):
                named = {name: round(float(chance), 4) for name, chance in zip(CLASSES, chances, strict=True)}
                store.write({"id": one.id, **named})
                counts["documents"] += 1
                counts["kept"] += bool(chances[training.HIGH] >= cfg.corpus.quality.minimum)
    run.finish({"quality": to}, counts)


def _kept(classifier: Classifier, good: list[reading.Read], minimum: float) -> dict[str, tuple[int, float]]:
    """By source of the good documents as they are: how many, and the share that the threshold keeps."""
    chances = classifier.probabilities([one.text for one in good])[:, training.HIGH]
    kept: dict[str, list[bool]] = {}
    for one, chance in zip(good, chances, strict=True):
        kept.setdefault(one.source or "–", []).append(bool(chance >= minimum))
    return {source: (len(found), sum(found) / len(found)) for source, found in sorted(kept.items())}


def _documents(cfg: Recipe, run: runs.Run, named: list[str]) -> Iterator[reading.Read]:
    """The readable documents of sources, normalised."""
    whole = cfg.corpus.text_files.value == "file"
    paths = [sources.fetch(one, run.folder / "fetched") if sources.is_dataset(one) else runs.resolve(one) for one in named]
    for path in paths:
        run.input(Path(path))
    for part in sources.parts(paths, cfg.corpus.part_mib * MIB, whole):
        for one in reading.read(part, cfg.corpus.longest_mib * MIB):
            if isinstance(one, reading.Read) and (text := normalise(one.text, cfg.language.replace)):
                yield reading.Read(one.id, text, one.source)


def _material(cfg: Recipe, run: runs.Run, good: list[str]) -> examples.Material:
    foreign = [one.text for one in _documents(cfg, run, cfg.corpus.quality.foreign)]
    others = [language.load(code) for code in options("language") if code != cfg.language.code]
    return examples.Material(cfg.language, good, foreign, others)
