"""Identifiers of people by name: a pattern that finds candidates and a check that decides.

The checks are python-stdnum's where it has them. Every pattern takes time linear in the text: no repetition in it can be
divided in two ways. One more identifier is one more entry here, or `module:name` in a language's file for a team's own.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from stdnum import iban
from stdnum.cz import rc
from stdnum.hu import anum
from stdnum.pl import nip, pesel

from nemo_plugins.data.personal import phones
from nemo_plugins.data.personal.identifier import Identifier
from nemo_plugins.data.personal.numbers import APART, DigitGroup, Number, in_word, kind
from nemo_plugins.runs.errors import UserError

ACCOUNT = r"(?i:konto|konta|kontem|rachun\w{1,4}|iban|nrb|przelew\w{0,3})"


@dataclass(frozen=True)
class Iban(Identifier):
    """Words may follow an IBAN, which its pattern takes in: the longest valid beginning counts."""

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self.pattern.finditer(text):
            for end in range(match.end(), match.start() + 14, -1):
                if not in_word(text[end : end + 1]) and in_word(text[end - 1]) and self.valid(text[match.start() : end]):
                    yield match.start(), end
                    break


def _iban(text: str) -> bool:
    return iban.is_valid("".join(filter(str.isalnum, text)))


def _taj(digits: str) -> bool:
    """Check digit of a Hungarian social security number (TAJ): weights 3 and 7 in turn, modulo 10."""
    return sum(int(digit) * (3, 7)[place % 2] for place, digit in enumerate(digits[:8])) % 10 == int(digits[8])


def _adoszam(digits: str) -> bool:
    """Eight digits with a check digit, the kind of taxation (1 to 5), the county."""
    return anum.is_valid(digits[:8]) and digits[8] in "12345"


def _leading_zero(groups: list[DigitGroup]) -> bool:
    return groups[0].digits.startswith("0")  # no tax office has it, many other registers do


def _always(groups: list[DigitGroup]) -> bool:
    return True


def _many(groups: list[DigitGroup]) -> bool:
    return len(groups) > 8  # a table's row


def _unlike_taj(groups: list[DigitGroup]) -> bool:
    """Nine digits are an amount or a telephone number unless hyphens part them."""
    return len(groups) == 1 or kind(groups[1].gap) != "-"


IDENTIFIERS = {
    "email": Identifier(
        "<EMAIL>",
        re.compile(r"(?<![\w.+%'&~-])[\w.+%'&~-]{1,64}@[^\W_](?:[\w-]{0,62}\.[^\W_]){1,8}[\w-]{1,62}(?<!-)(?![\w-])"),
    ),
    "iban": Iban("<IBAN>", re.compile(rf"(?<![^\W_])[A-Za-z]{{2}}{APART}?\d{APART}?\d(?:{APART}?[0-9A-Za-z]){{11,30}}"), _iban),
    "nrb": Number(  # a Polish account number, an IBAN without its country
        "<IBAN>", valid=lambda digits: iban.is_valid("PL" + digits), length=26, name=ACCOUNT, usual=((2, *[4] * 6),),
        named_only=_many,
    ),
    "phone": phones.Abroad(),
    "phone_in_groups": phones.Domestic(),
    "phone_hu": phones.Domestic(pattern=phones.HUNGARIAN),
    "pesel": Number("<PESEL>", valid=pesel.is_valid, length=11, name=r"(?i:pesel\w{0,2})", usual=((6, 5), (2, 2, 2, 5))),
    "nip": Number(
        "<NIP>", valid=nip.is_valid, length=10, name=r"(?i:nip\w{0,2}|vat|identyfikacji podatkowej)", country="PL",
        usual=((3, 3, 2, 2), (3, 2, 2, 3)), named_only=_leading_zero,
    ),
    "rodne_cislo": Number(
        "<RODNE_CISLO>", valid=rc.is_valid, length=10, name=r"(?i:rodn\w{1,4} čísl\w{1,3}|r\.? ?č|rč|dič)", country="CZ",
        usual=((6, 4), (2, 2, 2, 4)),
    ),
    "rodne_cislo_9": Number(  # of people born before 1954, without a check digit
        "<RODNE_CISLO>", valid=rc.is_valid, length=9, name=r"(?i:rodn\w{1,4} čísl\w{1,3}|r\.? ?č|rč)", named_only=_always
    ),
    "adoszam": Number(
        "<ADOSZAM>", valid=_adoszam, length=11, name=r"(?i:adó(?:szám|azonosító)\w{0,4})", country="HU", usual=((8, 1, 2),)
    ),
    "adoszam_8": Number(  # of the European Union
        "<ADOSZAM>", valid=anum.is_valid, length=8, name=r"(?i:adó(?:szám|azonosító)\w{0,4})", country="HU",
        named_only=_always,
    ),
    "taj": Number("<TAJ>", valid=_taj, length=9, name=r"(?i:taj(?:[- ]?szám\w{0,4})?)", named_only=_unlike_taj),
}  # fmt: skip


def get(name: str) -> Identifier:
    """The identifier of that name, or the one that `module:name` names.

    Raises:
        UserError: there is none.
    """
    if name in IDENTIFIERS:
        return IDENTIFIERS[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise UserError(f"language.identifiers: there is no {name!r}", f"expected {', '.join(IDENTIFIERS)}, or module:name")
    try:
        identifier = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"language.identifiers: {name}: {error}") from None
    if not isinstance(identifier, Identifier):
        raise UserError(f"language.identifiers: {name} is a {type(identifier).__name__}, expected an Identifier")
    return identifier
