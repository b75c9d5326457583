"""Personal data: what is valid is masked, what only looks like it stays."""

import random

import pytest
from hypothesis import example, given
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
@example("910-000-00-04", 0)
def test_one_digit_changed_is_none(number, place):
    text = SENTENCE.format(changed(number, place))
    masked = mask(text, POLISH)[0]
    assert masked in (text, SENTENCE.format("<PHONE>"))  # 010-000-00-04: a 0, an area's code and a number, as they were dialled


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
    ("text", "masked"),
    [
        ("44051401458/5252344078", "<PESEL>/<NIP>"),
        ("1,44051401458,x", "1,<PESEL>,x"),
        ("id,pesel\n1,44051401458\n2,44051401359", "id,pesel\n1,<PESEL>\n2,<PESEL>"),
        ("44051401458;5252344078|44051401458", "<PESEL>;<NIP>|<PESEL>"),
        ("440514-01458, 44 05 14 01458, PESEL: 4 4 0 5 1 4 0 1 4 5 8", "<PESEL>, <PESEL>, PESEL: <PESEL>"),
        ("skan_44051401458.pdf, PESEL44051401458", "skan_<PESEL>.pdf, PESEL<PESEL>"),
        ("NIP 525 234 40 78", "NIP <NIP>"),
        ("NIP 525.234.40.78, nip: pl 525-23-44-078, PL5252344078", "NIP <NIP>, nip: <NIP>, <NIP>"),
        ("525–234–40–78, 525\u00a0234\u00a040\u00a078, 525 - 234 - 40 - 78", "<NIP>, <NIP>, <NIP>"),
        ("tel. 22 123 45 67", "tel. <PHONE>"),
        ("tel./fax: 22/123-45-67, 22 123 45 68 wew. 12", "tel./fax: <PHONE>, <PHONE> wew. 12"),
        ("tel. (22) 123 45 67 lub 601 234 567", "tel. <PHONE> lub <PHONE>"),
        ("tel. +48 601 234 567, 602 345 678", "tel. <PHONE>, <PHONE>"),
        ("Telefon kontaktowy 601234567, dzwoń pod numer 22 123 45 67", "Telefon kontaktowy <PHONE>, dzwoń pod numer <PHONE>"),
        ("+48 (22) 123 45 67", "<PHONE>"),
        ("(+48 22) 123 45 67, 0048 22 123 45 67, 0048601234567", "<PHONE>, <PHONE>, <PHONE>"),
        ("(22) 123 45 67 i (0-22) 123 45 67", "<PHONE> i <PHONE>"),
        ("601.234.567", "<PHONE>"),
        ("601–234–567, 601\u2011234\u2011567, 601-234-567,22", "<PHONE>, <PHONE>, <PHONE>,22"),
        ("pl61 1090 1014 0000 0712 1981 2874 jest nowe", "<IBAN> jest nowe"),
        ("PL 61 1090 1014 0000 0712 1981 2874; PL61-1090-1014-0000-0712-1981-2874", "<IBAN>; <IBAN>"),
        ("de89 3704 0044 0532 0130 00", "<IBAN>"),
        ("61.1090.1014.0000.0712.1981.2874, 61109010140000071219812874", "<IBAN>, <IBAN>"),
    ],
)
def test_whatever_stands_between_the_digits(text, masked):
    assert mask(text, POLISH)[0] == masked


GAPS = [" ", "\u00a0", "\u202f", "\u2009", "-", "\u2010", "\u2011", "–", "—", "\u2212", ".", "/", " - ", " – "]
GROUPINGS = {
    "PESEL": ([11], [6, 5], [2, 2, 2, 5], [6, 2, 3], [4, 4, 3]),
    "NIP": ([10], [3, 3, 2, 2], [3, 2, 2, 3], [3, 2, 5], [5, 5], [2, 2, 2, 2, 2]),
    "IBAN": ([26], [2, 4, 4, 4, 4, 4, 4], [2, 8, 8, 8], [6, 4, 4, 4, 4, 4]),
}
NUMBERS = {"PESEL": "44051401458", "NIP": "5252344078", "IBAN": "61109010140000071219812874"}


def grouped(digits: str, lengths: list[int], gap: str) -> str:
    ends = [sum(lengths[: place + 1]) for place in range(len(lengths))]
    return gap.join(digits[end - length : end] for end, length in zip(ends, lengths, strict=True))


@given(st.sampled_from(sorted(NUMBERS)), st.data())
def test_any_groups_and_any_gaps(kind, data):
    lengths, gap = data.draw(st.sampled_from(GROUPINGS[kind])), data.draw(st.sampled_from(GAPS))
    number = grouped(NUMBERS[kind], lengths, gap)
    assert mask(SENTENCE.format(number), POLISH)[0] == SENTENCE.format(f"<{kind}>")


@given(st.sampled_from(sorted(NUMBERS)), st.sampled_from(GAPS), st.data())
def test_behind_its_name_any_grouping_counts(kind, gap, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(NUMBERS[kind]) - 1))))
    lengths = [end - start for start, end in zip([0, *cuts], [*cuts, len(NUMBERS[kind])], strict=True)]
    text = f"{kind}: {grouped(NUMBERS[kind], lengths, gap)}, a potem"
    assert mask(text, POLISH)[0] == f"{kind}: <{kind}>, a potem"


@given(
    st.sampled_from(
        ["tel. ", "Telefon: ", "tel./fax ", "kom. ", "nr tel.: ", "zadzwoń pod nr ", "+48 ", "(+48) ", "0048 ", "+48"]
    ),
    st.sampled_from(["221234567", "601234567"]),
    st.sampled_from([[9], [3, 3, 3], [2, 3, 2, 2], [2, 7], [3, 2, 2, 2], [1, 2, 3, 3]]),
    st.sampled_from([" ", "\u00a0", "-", "–", ".", "/"]),
)
def test_a_phone_number_behind_what_says_so(before, digits, lengths, gap):
    number = before + grouped(digits, lengths, gap)
    masked = mask(f"Biuro: {number}, czynne.", POLISH)[0]
    assert masked == f"Biuro: {before if before[-2].isalpha() or before[-2] in '.:' else ''}<PHONE>, czynne."


def impostors(kind: str, rng: random.Random) -> str:
    """A number of another kind."""

    def digits(count: int) -> str:
        return str(rng.randrange(1, 10)) + "".join(str(rng.randrange(10)) for _ in range(count - 1))

    year, month, day = rng.randrange(1900, 2100), rng.randrange(1, 13), rng.randrange(1, 29)
    return rng.choice(
        {
            "price": [
                f"{rng.randrange(10**6, 10**12):,}".replace(",", rng.choice(" .\u00a0")),
                f"{rng.randrange(10**8, 10**11)},{digits(2)} zł",
                f"{rng.randrange(10**6, 10**12):,} zł".replace(",", " "),
                f"+{rng.randrange(10**8, 10**12):,} euro".replace(",", " "),
            ],
            "date": [
                f"{year}-{month:02}-{day:02} {month:02}:{day:02}:12",
                f"{day:02}.{month:02}.{year}-{day:02}.{month:02}.{year + 1}",
                f"{year}-{month:02}-{day:02}-{day:02}",
                f"{day:02}-{month:02}-{year} {digits(2)}",
                f"{year}{month:02}{day:02} 12:30",
            ],
            "isbn": [
                f"83-{digits(4)}-{digits(3)}-{digits(1)}",
                f"978-83-{digits(4)}-{digits(3)}-{digits(1)}",
                f"ISBN {digits(10)}",
                f"ISBN-13: 978{digits(10)}",
            ],
            "fraction": [f"{rng.randrange(100)},{digits(11)}", f"0.{digits(10)}", f"{digits(11)}.{digits(2)}"],
            "other": [
                ".".join(str(rng.randrange(256)) for _ in range(4)),
                f"{digits(13)}",
                f"EAN {digits(10)}",
                f"KRS 0000{digits(6)}",
                f"{digits(9)}",
                f"AB-{digits(6)}{rng.choice('XYZ')}{digits(5)}",
            ],
            "code of 11": [digits(11), f"{digits(4)}-{digits(4)}-{digits(3)}", f"{digits(6)}/{digits(5)}"],
            "code of 10": [digits(10), f"{digits(3)}-{digits(3)}-{digits(4)}", f"{digits(5)}-{digits(5)}"],
            "code of 26": [digits(26), f"{digits(10)}-{digits(10)}-{digits(6)}"],
        }[kind]
    )


@pytest.mark.parametrize(
    ("kind", "most"),
    [  # the shares that the checksums leave: 1 of 10 times the dates that there are, 1 of 11, 1 of 97
        ("price", 0), ("date", 0), ("isbn", 0), ("fraction", 0), ("other", 0),
        ("code of 11", 0.03), ("code of 10", 0.11), ("code of 26", 0.02),
    ],
)  # fmt: skip
def test_how_many_other_numbers_are_masked(kind, most):
    rng = random.Random(7)
    texts = [f"Wartość {impostors(kind, rng)} podano w tabeli." for _ in range(1500)]
    masked = [text for text in texts if mask(text, POLISH)[1]]
    print(f"{kind}: {len(masked) / len(texts):.4f} of other numbers are masked")
    assert len(masked) <= most * len(texts), masked[:5]


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
        "601.234.567 zł, +601 234 567 zł, tel 1 234 567 zł",
        "liczba telefonów 1 234 567 w 2023 r., telefony 2023-2024",
        "od -922337203685477,5808 do +922337203685477,5807",
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert mask(text, POLISH) == (text, {})


@given(st.text(alphabet="0123456789 -+@.aąPL/\u00a0", max_size=200))
def test_twice_is_once(text):
    once, _ = mask(text, POLISH)
    assert mask(once, POLISH) == (once, {})


@pytest.mark.parametrize(
    ("code", "text", "masked"),
    [
        ("cs", "710319/2745, 710319 2745, 71 03 19/2745, CZ7103192745", ", ".join(["<RODNE_CISLO>"] * 4)),
        ("cs", "rč 531212/123, sp. zn. 531212/123", "rč <RODNE_CISLO>, sp. zn. 531212/123"),
        ("cs", "tel. 601 234 567, +420 (601) 234 567, 601 234 567 Kč", "tel. <PHONE>, <PHONE>, 601 234 567 Kč"),
        ("hu", "12892312 2 41, HU12892312, adószám: 12892312", "<ADOSZAM>, <ADOSZAM>, adószám: <ADOSZAM>"),
        ("hu", "TAJ: 123 456 788, TAJ-szám 123456788, 123 456 788 Ft", "TAJ: <TAJ>, TAJ-szám <TAJ>, 123 456 788 Ft"),
        ("hu", "06 30 123 4567, (06-1) 234 5678, +36 (30) 123-4567", "<PHONE>, <PHONE>, <PHONE>"),
        ("sw", "simu 0712 345 678 au +255 (712) 345-678", "simu <PHONE> au <PHONE>"),
    ],
)
def test_other_languages(code, text, masked):
    assert mask(text, language.load(code).identifiers)[0] == masked


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
