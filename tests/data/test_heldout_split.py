"""The held-out split: the same whatever the order and the shards, and no training document nearly repeats a held-out one."""

import gzip
import json
import pickle
import random
from collections import defaultdict
from pathlib import Path

import pytest
from datatrove.data import Document
from near_duplicates import jaccard, sets, varied

from nemo_plugins.data.corpus import steps, stores
from nemo_plugins.data.corpus.split import HeldoutGuard, is_heldout
from nemo_plugins.runs.errors import UserError
from nemo_plugins.runs.prepare import compose

TEXT = Path(__file__).parents[2] / "assets" / "polish_text" / "train.jsonl.gz"
SHARE, SEED, THRESHOLD = 0.1, 7, 0.7


@pytest.fixture(scope="module")
def corpus():
    """2398 real documents and 600 variants of them with Jaccard similarities from 0.6 to 1."""
    rng = random.Random(11)
    with gzip.open(TEXT, "rt", encoding="utf-8") as lines:
        real = [json.loads(line)["text"] for line in lines]
    variants = [varied(text, rng.uniform(0.6, 1), rng) for text in rng.sample(real, 600)]
    documents = real + variants
    rng.shuffle(documents)
    return documents


def split(documents: list[str], shards: int = 1):
    """(held out, training, dropped) as a pipeline would have them: decided shard by shard, the guard built of all shards."""
    parts = [documents[shard::shards] for shard in range(shards)]
    heldout = [text for part in parts for text in part if is_heldout(text, SHARE, SEED)]
    guard = HeldoutGuard(heldout, threshold=THRESHOLD)
    training, dropped = [], []
    for part in parts:
        for text in part:
            if not is_heldout(text, SHARE, SEED):
                (dropped if guard.near(text) else training).append(text)
    return heldout, training, dropped


@pytest.fixture(scope="module")
def divided(corpus):
    return split(corpus)


def test_no_training_document_nearly_repeats_a_heldout_one_and_no_other_is_dropped(divided):
    heldout, training, dropped = divided
    held = [sets(text) for text in heldout]
    holders = defaultdict(set)
    for number, runs in enumerate(held):
        for run in runs:
            holders[run].add(number)

    def nearest(text: str) -> float:
        runs = sets(text)
        rivals = set().union(*(holders.get(run, ()) for run in runs))
        return max((jaccard(runs, held[number]) for number in rivals), default=0.0)

    across = [nearest(text) for text in training]
    assert max(across) < THRESHOLD
    assert max(across) > 0.6  # pairs just below it are there and are kept
    assert len(dropped) > 50
    assert min(map(nearest, dropped)) >= THRESHOLD


@pytest.mark.long
def test_the_split_is_the_same_in_another_order_and_in_other_shards(corpus, divided):
    shuffled = random.Random(3).sample(corpus, len(corpus))
    for other in (split(shuffled), split(corpus, shards=7)):
        assert [sorted(part) for part in other] == [sorted(part) for part in divided]


@pytest.mark.long
def test_the_stages_of_a_corpus_divide_as_the_functions_do(corpus, divided, tmp_path):
    names = [f"corpus.heldout_share={SHARE}", f"corpus.heldout_similarity={THRESHOLD}", f"run.seed={SEED}", "corpus.mask=false"]
    cfg = compose(["+model=tiny_pl", *names])
    folders, tasks = steps.Folders(tmp_path), 3
    for task in range(tasks):
        own = [{"id": f"{number}", "text": corpus[number]} for number in range(task, len(corpus), tasks)]
        given = (Document(record["text"], record["id"], metadata={"record": record}) for record in own)
        steps.Finish(folders, cfg.corpus, cfg.language, SEED).run(given, task, tasks)
    for task in range(tasks):
        steps.Divide(folders, cfg.corpus).run(None, task, tasks)
    heldout, training = (
        [record["text"] for task in range(tasks) for record in stores.records(stores.path(folders.out(side), task))]
        for side in ("heldout", "train")
    )
    assert [sorted(heldout), sorted(training)] == [sorted(part) for part in divided[:2]]
    counted = [json.loads(folders.counts("divide", task).read_text()) for task in range(tasks)]
    assert sum(one["counts"].get("near_heldout", 0) for one in counted) == len(divided[2])
    sample = counted[0]["samples"]["near_heldout"][0]
    nearest, similarity = sample["detail"].split(", Jaccard similarity ")
    assert is_heldout(corpus[int(nearest)], SHARE, SEED)
    between = jaccard(sets(corpus[int(sample["id"])]), sets(corpus[int(nearest)]))
    assert between >= THRESHOLD and float(similarity) == pytest.approx(between, abs=0.006)


def test_the_guard_tells_which_document_and_how_near():
    base = "Każdy dokument ma swoje zdania i każde zdanie ma swoje słowa oraz kolejność tych słów w zdaniu"
    guard = HeldoutGuard(["Zupełnie inny tekst, który niczego tu nie powtarza ani nie przypomina.", base, "Dzień dobry!"])
    tokens = base.split()
    number, similarity = guard.near(" ".join(tokens[:-2]))
    assert (number, similarity) == (1, pytest.approx(jaccard(sets(base), sets(" ".join(tokens[:-2])))))
    assert guard.near(base.upper().replace(" ", " – ")) == (1, 1.0)
    assert guard.near("dzień dobry") == (2, 1.0)
    assert guard.near("dzień dobry państwu") is None
    assert guard.near("") is None
    assert HeldoutGuard([]).near(base) is None
    assert pickle.loads(pickle.dumps(guard)).near(base) == (1, 1.0)


def test_the_threshold_itself_is_near():
    one, other = "a b c d e f g h i j k l", "a b c d e f g h i j k x"  # 7 of 9 runs in common: 8 each
    assert jaccard(sets(one), sets(other)) == 7 / 9
    assert HeldoutGuard([one], threshold=7 / 9).near(other) == (0, 7 / 9)
    assert HeldoutGuard([one], threshold=7 / 9 + 1e-6).near(other) is None


def test_the_share_is_held_out_and_a_smaller_share_is_a_part_of_a_larger():
    texts = [f"dokument numer {number} o czymś" for number in range(20_000)]
    one, five = ({text for text in texts if is_heldout(text, share, SEED)} for share in (0.01, 0.05))
    assert abs(len(one) - 200) < 4 * 14 and abs(len(five) - 1000) < 4 * 31
    assert one < five
    other = {text for text in texts if is_heldout(text, 0.05, SEED + 1)}
    assert len(five & other) < 100
    assert not any(is_heldout(text, 0, SEED) for text in texts[:1000])
    assert all(is_heldout(text, 1, SEED) for text in texts[:1000])


def test_copies_that_differ_in_signs_and_case_are_on_the_same_side():
    for number in range(500):
        text = f"Zażółć gęślą jaźń, powiedział numer {number}."
        assert is_heldout(text, 0.5, SEED) == is_heldout(text.upper().replace(",", " –"), 0.5, SEED)


def test_the_split_of_today_is_the_split_of_tomorrow():
    picked = [number for number in range(200) if is_heldout(f"Dokument {number}", 0.05, 1234)]
    assert picked == [
        8,
        48,
        88,
        99,
        129,
        188,
        191,
        198,
    ]  # else documents of finished runs change sides


def test_impossible_numbers_are_refused():
    with pytest.raises(UserError, match="share of held-out documents: 1.5"):
        is_heldout("tekst", 1.5, SEED)
    with pytest.raises(UserError, match="threshold=0"):
        HeldoutGuard([], threshold=0)
