"""What documents are compared by, and the one form that a text is brought to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_plugins.configs import language
from nemo_plugins.data.corpus.normalise import normalise
from nemo_plugins.data.corpus.words import shingles, words

REPLACE = language.load("pl").replace


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("ZaÅ¼Ã³Å‚Ä‡ gÄ™Å›lÄ…", "Zażółć gęślą"),  # UTF-8 read as Windows-1252
        ("z\u0307ona\u0301", "żoná"),  # decomposed
        ("słowo\u00adnośne i\u200b dalej\ufeff", "słowonośne i dalej"),
        ("a\u00a0b\tc   d \r\n e", "a b c d\ne"),
        ("ala\x0bma\x0ckota", "ala\nma\nkota"),
        ("raz\n\n\n\n\ndwa", "raz\n\ndwa"),
        ("„Cytat” i «drugi» — z myślnikiem…", "„Cytat” i «drugi» — z myślnikiem…"),
        (",,Cytat”", "„Cytat”"),
        ("\x00\x07raz \x1b[31mdwa\x1b[0m", "raz dwa"),  # and a terminal's colours
        ("", ""),
    ],
)
def test_one_form(text, normal):
    assert normalise(text, REPLACE) == normal


@given(st.text(alphabet=st.sampled_from("aąz ,„”\n\r\t\u00a0\u200b\u0307\u0301\x00Åe&;<")))
def test_twice_is_once(text):
    once = normalise(text, REPLACE)
    assert normalise(once, REPLACE) == once


def test_words_keep_diacritics_and_nothing_else():
    assert words("Sąd, sad — SĄD!  „3,5”") == ["sąd", "sad", "sąd", "3", "5"]
    assert words("z\u0307aba") == words("ŻABA")


def test_shingles_are_the_distinct_runs_of_words():
    assert len(shingles("Ala ma kota, a kot Alę.", 5)) == 2
    assert len(shingles("raz dwa raz dwa raz", 2)) == 2
    assert set(shingles("Ala ma", 5)) == set(shingles("ala – MA!", 5)) != set(shingles("ala", 5))
    assert set(shingles("a b c d e f", 5)) & set(shingles("x a b c d e", 5))
    assert len(shingles("…", 5)) == 0
