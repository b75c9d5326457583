"""Personal data: what is valid is masked, what only looks like it stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban
from stdnum.iso7064 import mod_97_10
from stdnum.pl import nip, pesel

from nemo_plugins.configs import language
from nemo_plugins.data.personal import identifiers
from nemo_plugins.data.personal.mask import mask

POLISH = language.load("pl").identifiers
SENTENCE = "Pani Żółć podała {}, a potem (w 2024 r.) poszła do domu."


@st.composite
def pesels(draw):
    day = draw(st.dates(min_value=__import__("datetime").date(1900, 1, 1), max_value=__import__("datetime").date(2099, 12, 31)))
    ten = f"{day.year % 100:02}{day.month + (20 if day.year >= 2000 else 0):02}{day.day:02}{draw(st.integers(0, 9999)):04}"
    weighted = sum(int(digit) * weight for digit, weight in zip(ten, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), strict=True))
    return f"{ten}{-weighted % 10}"


@st.composite
def nips(draw):
    nine = draw(st.from_regex(r"[1-9][0-9]{8}", fullmatch=True))
    rest = sum(int(digit) * weight for digit, weight in zip(nine, (6, 5, 7, 2, 3, 4, 5, 6, 7), strict=True)) % 11
    if rest == 10:
        nine, rest = "123456321", 8
    shape = draw(st.sampled_from(["{}{}{}{}", "{}-{}-{}-{}"]))
    ten = f"{nine}{rest}"
    return shape.format(ten[:3], ten[3:6], ten[6:8], ten[8:])


@st.composite
def ibans(draw):
    account = draw(st.from_regex(r"[0-9]{24}", fullmatch=True))
    number = f"PL{mod_97_10.calc_check_digits(account + 'PL')}{account}"
    if not iban.is_valid(number):  # the bank's own check digit is wrong: take a German one, which has none
        number = f"DE{mod_97_10.calc_check_digits(account[:18] + 'DE')}{account[:18]}"
    return draw(st.sampled_from([number, " ".join(number[at : at + 4] for at in range(0, len(number), 4))]))


def changed(number: str, place: int) -> str:
    """The number with one of its digits another."""
    digits = [at for at, character in enumerate(number) if character.isdigit()]
    at = digits[place % len(digits)]
    return f"{number[:at]}{(int(number[at]) + 1) % 10}{number[at + 1 :]}"


@given(pesels())
def test_a_pesel(number):
    assert pesel.is_valid(number)
    assert mask(SENTENCE.format(number), POLISH)[0] == SENTENCE.format("<PESEL>")


@given(nips())
def test_a_nip(number):
    assert nip.is_valid(number)
    assert mask(SENTENCE.format(number), POLISH)[0] == SENTENCE.format("<NIP>")


@given(ibans())
def test_an_iban(number):
    assert iban.is_valid(number)
    text = SENTENCE.format(number)
    assert mask(text, POLISH)[0] == SENTENCE.format("<IBAN>")
    assert mask(f"Konto {number} JEST NOWE", POLISH)[0] == "Konto <IBAN> JEST NOWE"


@given(st.one_of(pesels(), nips(), ibans()), st.integers(0, 30))
def test_one_digit_changed_is_none(number, place):
    text = SENTENCE.format(changed(number, place))
    assert mask(text, POLISH) == (text, {})


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Napisz: jan.kowalski+poczta@uczelnia.edu.pl.", "Napisz: <EMAIL>."),
        ("zażółć@gęślą.pl", "<EMAIL>"),
        ("tel. 601 234 567, dom", "tel. <PHONE>, dom"),
        ("Telefon: 601234567", "Telefon: <PHONE>"),
        ("numer telefonu 601 234 567", "numer telefonu <PHONE>"),
        ("telefonu: 601 234 567, tel. nr 601 234 568", "telefonu: <PHONE>, tel. nr <PHONE>"),
        ("+48 601 234 567 albo (+48) 22 555 44 33", "<PHONE> albo <PHONE>"),
        ("601-234-567", "<PHONE>"),
        ("Konto: 61 1090 1014 0000 0712 1981 2874.", "Konto: <IBAN>."),
    ],
)
def test_what_is_written_in_polish_texts(text, masked):
    assert mask(text, POLISH)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "budżet 601 234 567 złotych",
        "hotel 601 234 567 złotych",
        "w latach 1939-1945 i 2001/2002",
        "ISBN 83-7181-510-2",
        "stała 3,14159265358979 i 0.44051401359",
        "44051401358",  # the check digit of 44051401359 is 9
        "99133112345",  # no such day
        "1234567890123456789012345678901234567890",
        "użytkownik@lokalnie, @wzmianka, a@b",
        "PL00 1234 5678 9012 3456 7890 1234",
        "wersja 10.0.12345-678",
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert mask(text, POLISH) == (text, {})


@given(st.text(alphabet="0123456789 -+@.aąPL/\u00a0", max_size=200))
def test_twice_is_once(text):
    once, _ = mask(text, POLISH)
    assert mask(once, POLISH) == (once, {})


@pytest.mark.parametrize(
    ("name", "number"), [("rodne_cislo", "710319/2745"), ("adoszam", "12892312-2-41"), ("taj", "123-456-788")]
)
def test_other_countries(name, number):
    assert mask(f"({number})", [name])[0] == f"({identifiers.get(name).placeholder})"
    other = changed(number, 8 if name == "taj" else 3)
    assert mask(other, [name])[0] == other


@pytest.mark.parametrize("piece", ["1", "1 ", "12-", "a@", "a.", "PL61", "+48", "A1 ", "tel. ", "tel. nr "])
def test_hostile_text_takes_time_in_proportion(piece):
    import time

    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        start = time.process_time()
        mask(text, POLISH)
        return time.process_time() - start

    short = min(seconds(20_000) for _ in range(3))
    assert seconds(200_000) < 60 * max(short, 1e-3)  # in proportion: 10; quadratic: 100
