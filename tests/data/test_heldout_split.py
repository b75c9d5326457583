"""The held-out split: always the same, of the size asked for, and with nothing alike on the other side."""

import gzip
import json
import random
from pathlib import Path

import pytest

from nemo_plugins.data.corpus.split import HeldoutGuard, is_heldout
from nemo_plugins.data.corpus.words import shingles

TEXT = Path(__file__).resolve().parents[2] / "assets" / "polish_text" / "train.jsonl.gz"
THRESHOLD = 0.7


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Real text, and copies of some with a share of their words changed."""
    with gzip.open(TEXT, "rt") as lines:
        texts = [text for text in (json.loads(line)["text"] for line in lines) if len(text.split()) >= 30][:600]
    rng = random.Random(0)
    for text in texts[:300]:
        changed = text.split(" ")
        for place in rng.sample(range(len(changed)), max(1, int(rng.uniform(0, 0.06) * len(changed)))):
            changed[place] = f"wstawka{rng.randint(0, 10**6)}"
        texts.append(" ".join(changed))
    return texts


def jaccard(one: str, two: str) -> float:
    a, b = set(shingles(one, 5)), set(shingles(two, 5))
    return len(a & b) / len(a | b)


def test_nothing_across_the_split_is_alike(documents):
    heldout = [text for text in documents if is_heldout(text, 0.1, seed=1)]
    train = [text for text in documents if not is_heldout(text, 0.1, seed=1)]
    guard = HeldoutGuard(heldout, THRESHOLD)
    dropped = 0
    for text in train:
        most = max(jaccard(text, held) for held in heldout)
        alike = guard.alike(text)
        assert (alike is not None) == (most >= THRESHOLD)
        if alike is not None:
            assert jaccard(text, heldout[alike]) == most
            dropped += 1
    assert dropped > 10  # the copies were there to be found


def test_it_depends_on_the_words_alone(documents):
    for text in documents[:100]:
        drawn = is_heldout(text, 0.3, seed=5)
        assert is_heldout(text.upper().replace(" ", "  "), 0.3, seed=5) is drawn


def test_its_share_is_the_share_asked_for(documents):
    many = [f"{text} {number}" for text in documents for number in range(10)]
    held = sum(is_heldout(text, 0.05, seed=2) for text in many) / len(many)
    assert held == pytest.approx(0.05, abs=5 * (0.05 * 0.95 / len(many)) ** 0.5)
    assert not any(is_heldout(text, 0.0, seed=2) for text in many[:100])
    assert all(is_heldout(text, 1.0, seed=2) for text in many[:100])


def test_another_seed_draws_others(documents):
    one, two = ([is_heldout(text, 0.5, seed) for text in documents] for seed in (1, 2))
    assert 0.35 < sum(a != b for a, b in zip(one, two, strict=True)) / len(one) < 0.65
