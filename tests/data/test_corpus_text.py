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
        ("Rzekł: ,,Czytam ,,Lalkę'' znowu” i wyszedł.", "Rzekł: „Czytam „Lalkę'' znowu” i wyszedł."),
        ('(,,Pan Tadeusz") i ‚‚Dziady"', '(„Pan Tadeusz") i „Dziady"'),
        (",,Pierwszy\nwiersz” – rzekł", "„Pierwszy\nwiersz” – rzekł"),
        ("„Kowalski,,Warszawa”", "„Kowalski,,Warszawa”"),
        ("Kowalski,,Warszawa i Kraków‚‚Łódź", "Kowalski,,Warszawa i Kraków‚‚Łódź"),
        (",,Warszawa,00-950\nJan,,,x", ",,Warszawa,00-950\nJan,,,x"),
        (',,Warszawa,"ul. Długa 5",,', ',,Warszawa,"ul. Długa 5",,'),
        ("raz ,, dwa” i 1,,2”", "raz ,, dwa” i 1,,2”"),
        ("Nowak ,,Łódź\n\nInny „akapit” o 5” śrubie", "Nowak ,,Łódź\n\nInny „akapit” o 5” śrubie"),
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


@given(st.lists(st.text(alphabet="aąż1", min_size=1, max_size=4), min_size=2, max_size=6), st.sampled_from([",,", "‚‚"]))
def test_fields_without_a_quotation_stay(fields, mark):
    line = mark.join(fields)
    assert normalise(f"„{line}”", REPLACE) == f"„{line}”"


@pytest.mark.parametrize("code", ["cs", "hu", "pl"])
def test_every_language_that_opens_below_repairs_typists_quotes_alone(code):
    replace = language.load(code).replace
    assert normalise("a ,,b” c,,d", replace) == "a „b” c,,d"


def test_words_keep_diacritics_and_nothing_else():
    assert words("Sąd, sad — SĄD!  „3,5”") == ["sąd", "sad", "sąd", "3", "5"]
    assert words("z\u0307aba") == words("ŻABA")


def test_shingles_are_the_distinct_runs_of_words():
    assert len(shingles("Ala ma kota, a kot Alę.", 5)) == 2
    assert len(shingles("raz dwa raz dwa raz", 2)) == 2
    assert set(shingles("Ala ma", 5)) == set(shingles("ala – MA!", 5)) != set(shingles("ala", 5))
    assert set(shingles("a b c d e f", 5)) & set(shingles("x a b c d e", 5))
    assert len(shingles("…", 5)) == 0
