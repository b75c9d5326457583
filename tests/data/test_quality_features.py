"""Quality features: each is documented and means what it says, and none depends on what else is measured beside it."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from nemo_plugins.configs import language
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.data.quality import features

TEXT = Path(REPOSITORY, "assets", "polish_text", "train.jsonl.gz")
STRANGE = [
    "",
    "a",
    "\n",
    "\n\n a \n",
    "a" * 70_000,
    "😀😀",
    "\ud800",
    "…",
    "!!!!!",
    "\x00\x01",
    "ą" * 3,
    "1 2 3",
    "Ala ma kota. " * 9000,
]


@pytest.fixture(scope="module")
def extractor():
    return features.Extractor(language.load("pl"))


@pytest.fixture(scope="module")
def texts():
    with gzip.open(TEXT, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines][:200]


def test_there_are_about_150_each_documented_once_in_the_order_of_the_matrix(extractor):
    assert 150 <= len(features.NAMES) == len(set(features.NAMES)) <= 180
    from nemo_plugins.data.quality.page import Pages

    for family in features.FAMILIES:
        assert list(family.measure(Pages(["Ala ma kota."], extractor.lexicon))) == list(family.DOCUMENTATION)
    assert features.table() in Path(REPOSITORY, "docs", "quality.md").read_text()


def test_a_text_has_the_same_features_alone_and_among_others(extractor, texts, monkeypatch):
    mixed = random.Random(1).sample(texts + STRANGE, len(texts) + len(STRANGE))
    together = extractor.matrix(mixed)
    assert together.shape == (len(mixed), len(features.NAMES)) and np.isfinite(together).all()
    for number in range(0, len(mixed), 3):
        np.testing.assert_array_equal(extractor.features(mixed[number]), together[number])
    monkeypatch.setattr(features, "TOGETHER", 5_000)
    np.testing.assert_array_equal(extractor.matrix(mixed), together)


def brute(text: str, stop_words: set[str]) -> dict[str, float]:
    """A few features by plain Python."""
    words, word = [], ""
    for character in text + " ":
        if character.isalpha():
            word += character
        elif word:
            words.append(word)
            word = ""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    lower = [word.lower() for word in words]
    letters = [character for character in text if character.isalpha()]
    gaps, gap = [0], 0
    for one in lower:
        gap = 0 if one in stop_words else gap + 1
        gaps.append(gap)
    pairs = list(zip(lower, lower[1:], strict=False))
    lengths = sorted(map(len, lines))
    middle = (lengths[(len(lengths) - 1) // 2] + lengths[len(lengths) // 2]) / 2
    fives = list(zip(*(lower[start:] for start in range(5)), strict=False))
    return {
        "log_characters": np.log1p(len(text)),
        "word_length_mean": np.mean([len(one) for one in words]),
        "word_length_std": np.std([len(one) for one in words]),
        "log_longest_word": np.log1p(max(map(len, words))),
        "stop_words": sum(one in stop_words for one in lower) / len(words),
        "stop_word_gap_longest": np.log1p(max(gaps)),
        "stop_word_pairs": sum(a in stop_words and b in stop_words for a, b in pairs) / sum(one in stop_words for one in lower),
        "words_once": sum(lower.count(one) == 1 for one in lower) / len(words),
        "top_10_words": sum(sorted((lower.count(one) for one in set(lower)), reverse=True)[:10]) / len(words),
        "words_repeated": sum(a == b for a, b in pairs) / len(words),
        "repeated_5_words_in_a_row": (len(fives) - len(set(fives))) / len(fives) if fives else 0,
        "capitalised_words": sum(one[0].isupper() for one in words) / len(words),
        "upper_letters": sum(one.isupper() for one in letters) / len(letters),
        "commas": text.count(",") / len(text),
        "digits": sum(one in "0123456789" for one in text) / len(text),
        "log_lines": np.log1p(len(lines)),
        "line_length_median": np.log1p(middle),
        "lines_duplicate": (len(lines) - len(set(one.lower() for one in lines))) / len(lines),
        "lines_ended": sum(line[-1] in '.?!…”»"' for line in lines) / len(lines),
        "letter_entropy": -sum(
            (share := count / len(letters)) * np.log2(share)
            for count in [[one.lower() for one in letters].count(kind) for kind in {one.lower() for one in letters}]
        ),
        "character_kinds": len(set(text)) / len(text) ** 0.5,
    }


def test_they_are_what_plain_python_says(extractor, texts):
    stop_words = set(language.load("pl").stop_words)
    some = [text for text in texts if 200 < len(text) < 3000][:40] + [
        "Raz, raz, dwa.\nRaz, raz, dwa.\nA i B albo 12 oraz ŻÓŁW!"
    ]
    for text, row in zip(some, extractor.matrix(some), strict=True):
        found = dict(zip(features.NAMES, row.tolist(), strict=True))
        for name, value in brute(text, stop_words).items():
            assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-6), (name, text[:80])


@pytest.mark.parametrize(
    ("name", "more", "less"),
    [
        ("own_letters", "Zażółć gęślą jaźń", "Zazolc gesla jazn"),
        ("mojibake", "ZaÅ¼Ã³Å‚Ä‡ wszystko", "Zażółć wszystko"),
        ("urls", "zobacz https://a.pl/b i www.c.pl", "zobacz to i tamto"),
        ("tags", "<p>tekst <b>i</b> tekst</p>", "tekst i tekst, 1 < 2"),
        ("snake_case", "zmienna_a zmienna_b", "zmienna a, zmienna b"),
        ("lines_bullet", "- raz\n- dwa\ntrzy", "raz\ndwa\ntrzy"),
        ("character_runs", "taaaaaaak jest", "tak jest, tak"),
        ("words_without_vowel", "brrr krk wrzsz tak", "bardzo kruk wrzos tak"),
        ("infinitive", "czytać pisać robić", "czyta pisze robi"),
        ("cyrillic", "это текст", "to tekst"),
        ("round_balance", "(a (b (c", "(a) (b) (c)"),
    ],
)
def test_what_each_is_for(extractor, name, more, less):
    place = features.NAMES.index(name)
    assert extractor.features(more)[place] > extractor.features(less)[place]


def test_a_language_without_endings_has_features_too():
    for code in ("cs", "hu", "sw"):
        made = features.features("Text of any kind, 123.", language.load(code))
        assert made.shape == (len(features.NAMES),) and np.isfinite(made).all()
