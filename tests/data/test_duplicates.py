"""Duplicates: what is found is what the probability curve promises, the first stays, and nothing depends on the shards."""

import gzip
import json
import math
import pickle
import random
import re
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from datatrove.pipeline.readers.base import BaseDiskReader
from datatrove.pipeline.writers.disk_base import DiskWriter
from near_duplicates import jaccard, sets, varied

from nemo_plugins.configs.schema import DuplicatesConfig
from nemo_plugins.data.corpus import duplicates
from nemo_plugins.runs.errors import UserError

FINEWEB = DuplicatesConfig(shingle_words=5, buckets=14, hashes=8)
TEXT = Path(__file__).parents[2] / "assets" / "polish_text" / "train.jsonl.gz"


def brute_force(texts: dict[str, str], least: float) -> dict[tuple[str, str], float]:
    """Jaccard similarity of every pair that reaches `least`: all pairs with a run of words in common are compared."""
    runs = {id: sets(text) for id, text in texts.items()}
    holders = defaultdict(list)
    for id, own in runs.items():
        for run in own:
            holders[run].append(id)
    common = Counter(pair for ids in holders.values() for pair in combinations(ids, 2))
    similar = {pair: n / (len(runs[pair[0]]) + len(runs[pair[1]]) - n) for pair, n in common.items()}
    return {pair: similarity for pair, similarity in similar.items() if similarity >= least}


@pytest.fixture(scope="module")
def corpus():
    """600 real documents and, in another order, a variant of 420 of them, at 0.7 to 1.0."""
    rng = random.Random(5)
    with gzip.open(TEXT, "rt", encoding="utf-8") as lines:
        real = [record for record in map(json.loads, lines) if 500 < len(record["text"]) < 3000][:600]
    documents = {record["id"]: record["text"] for record in real}
    variants = [
        (f"copy of {record['id']}", varied(record["text"], 0.7 + 0.3 * (number % 60) / 59, rng))
        for number, record in enumerate(rng.sample(real, 420))
    ]
    rng.shuffle(variants)
    return documents | dict(variants)


class Reader(BaseDiskReader):
    name = "lines"

    def read_file(self, filepath):
        with self.data_folder.open(filepath, "rt") as lines:
            for number, line in enumerate(lines):
                yield self.get_document_from_dict(json.loads(line), filepath, number)


class Writer(DiskWriter):
    name = "lines"
    default_output_filename = "${rank}.jsonl"

    def _write(self, document: dict, file_handler, _filename):
        file_handler.write(json.dumps(document) + "\n")


def write(folder: Path, documents: dict[str, str], files: int) -> str:
    """The documents in `files` JSONL files, one after the other: their order is that of the files."""
    folder.mkdir()
    records = [json.dumps({"id": id, "text": text}) for id, text in documents.items()]
    size = math.ceil(len(records) / files)
    for number in range(files):
        path = folder / f"{number:03}.jsonl"
        path.write_text("".join(f"{record}\n" for record in records[number * size : (number + 1) * size]))
    return str(folder)


def execute(stages: list[duplicates.CorpusJob]) -> None:
    """What datatrove's executors do, task by task, through pickle as they do it."""
    for stage in stages:
        for rank in range(stage.tasks):
            data = None
            for step in pickle.loads(pickle.dumps(stage.pipeline())):
                data = step(data, rank, stage.tasks)
            list(data or ())


def deduplicate(tmp_path: Path, source: str, tasks: int, name: str = "out"):
    """Ids that stay and, by id, the removals."""
    folder = tmp_path / name
    execute(duplicates.stages(lambda: [Reader(source)], lambda: [Writer(str(folder / "kept"))], str(folder), tasks, FINEWEB))
    stay = [json.loads(line)["id"] for path in sorted((folder / "kept").glob("*")) for line in path.read_text().splitlines()]
    removed = [json.loads(line) for path in sorted((folder / "removed").glob("*")) for line in path.read_text().splitlines()]
    return stay, {removal["id"]: removal for removal in removed}, json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def result(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("duplicates")
    return deduplicate(folder, write(folder / "in", corpus, files=6), tasks=3)


def test_known_duplicates_are_found_as_often_as_the_curve_promises_and_nothing_else_is(corpus, result, record_property):
    _, removed, _ = result
    true = brute_force(corpus, least=0.5)
    injected = {pair: similarity for pair, similarity in true.items() if pair[1] == f"copy of {pair[0]}"}
    assert len(injected) > 400
    bands = {}
    for low, high in ((0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.01)):
        chances = {pair: 1 - (1 - s**8) ** 14 for pair, s in injected.items() if low <= s < high}
        found = sum(pair[1] in removed for pair in chances)
        expected, spread = sum(chances.values()), math.sqrt(sum(p * (1 - p) for p in chances.values()))
        bands[f"{low}-{min(high, 1)}"] = (found, round(expected, 1), len(chances))
        assert abs(found - expected) <= 4 * spread + 1, bands
    known = [pair for pair, similarity in injected.items() if similarity >= 0.7]
    recall = sum(pair[1] in removed for pair in known) / len(known)
    near = {id for pair, similarity in true.items() if similarity >= 0.6 for id in pair}
    precision = len(removed.keys() & near) / len(removed)
    print("Jaccard: (found, expected, known)", bands, f"recall from 0.7: {recall:.3f}, precision: {precision:.3f}")
    record_property("found_expected_known", bands)
    record_property("recall_precision", (recall, precision))
    assert recall > 0.88
    assert precision > 0.98


def test_every_dropped_document_names_one_that_stays_before_it_and_resembles_it(corpus, result):
    stay, removed, summary = result
    order = {id: place for place, id in enumerate(corpus)}
    assert set(stay) | removed.keys() == corpus.keys() and not set(stay) & removed.keys()
    similarity = []
    for id, removal in removed.items():
        assert removal["duplicate_of"] in set(stay)
        assert order[removal["duplicate_of"]] < order[id]
        similarity.append(jaccard(sets(corpus[id]), sets(corpus[removal["duplicate_of"]])))
    assert np.mean(np.array(similarity) > 0.5) > 0.98
    assert summary["documents"] == len(corpus) and summary["kept"] == len(stay)
    assert summary["exact"] + summary["near"] == len(removed)
    assert sum((int(size) - 1) * count for size, count in summary["cluster_sizes"].items()) == len(removed)


def test_another_number_of_tasks_keeps_the_same_documents(corpus, result, tmp_path):
    some = dict(list(corpus.items())[::3])
    source = write(tmp_path / "in", some, files=6)
    one, five = (deduplicate(tmp_path, source, tasks, name=str(tasks)) for tasks in (1, 5))
    assert set(one[0]) == set(five[0])
    assert {id: removal["duplicate_of"] for id, removal in one[1].items()} == {
        id: removal["duplicate_of"] for id, removal in five[1].items()
    }


def test_reasons_short_texts_and_clusters(tmp_path):
    long = "Zażółć gęślą jaźń, a potem opowiedz o tym swoim bliskim znajomym w najbliższą środę wieczorem. " * 2
    documents = {
        "short": "Dzień dobry!",
        "near the last": long + "Koniec",
        "wordless": "…",
        "short again": "dzień  DOBRY!",
        "other short": "Dzień dobry?",
        "long": long,
        "wordless again": "…\n",
        "same but for space": long.replace(" ", "\n"),
        "same but for signs": long.replace(",", " –"),
        "without accents": long.replace("ż", "z").replace("ó", "o").replace("ę", "e").replace("ś", "s").replace("ą", "a"),
    }
    stay, removed, summary = deduplicate(tmp_path, write(tmp_path / "in", documents, files=3), tasks=2)
    assert {id: (one["reason"], one["duplicate_of"]) for id, one in removed.items()} == {
        "short again": ("exact", "short"),
        "wordless again": ("exact", "wordless"),
        "long": ("near", "near the last"),
        "same but for space": ("exact", "near the last"),
        "same but for signs": ("near", "near the last"),
    }
    assert sorted(stay) == ["near the last", "other short", "short", "without accents", "wordless"]
    assert summary == {"documents": 10, "kept": 5, "exact": 3, "near": 2, "cluster_sizes": {"2": 2, "4": 1}}
    samples = [json.loads(line) for path in (tmp_path / "out" / "samples").glob("*") for line in path.read_text().splitlines()]
    assert {sample["id"] for sample in samples} == removed.keys()
    assert all(documents[sample["id"]].strip() == sample["text"].strip() for sample in samples)


def test_a_text_longer_than_one_block_has_the_signature_of_all_its_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "RUNS_AT_ONCE", 4)
    signature = duplicates.Signature(str(tmp_path), duplicates.MinhashConfig())
    shingles = signature.get_shingles(" ".join(f"słowo{number}" for number in range(18)))
    assert shingles.shape == (14, 1)
    assert signature.get_signature(shingles).tolist() == super(duplicates.Signature, signature).get_signature(shingles)


def test_a_corpus_that_changed_between_the_passes_is_refused(tmp_path):
    same = "ta sama treść dokumentu dwa razy i jeszcze raz"
    source = write(tmp_path / "in", {"a": same, "b": same}, files=1)
    changed = write(tmp_path / "changed", {"a": same, "c": same}, files=1)
    stages = duplicates.stages(lambda: [Reader(source)], lambda: [], str(tmp_path / "out"), 1, FINEWEB)
    execute(stages[:3])
    step = duplicates.DropDuplicates(str(tmp_path / "out"))
    with pytest.raises(UserError, match=re.escape("reads c where it read b")):
        list(step(Reader(changed)(), 0, 1))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="hashes=0"):
        duplicates.stages(list, list, "nowhere", 1, replace(FINEWEB, hashes=0))
