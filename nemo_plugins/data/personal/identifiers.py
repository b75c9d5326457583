"""Identifiers of people by name: a pattern that finds candidates and a check that decides.

The checks are python-stdnum's where it has them. Every pattern takes time linear in the text: no repetition in it can be
divided in two ways. One more identifier is one more entry here, or `module:name` in a language's file for a team's own.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stdnum import iban
from stdnum.cz import rc
from stdnum.hu import anum
from stdnum.pl import nip, pesel

from nemo_plugins.runs.errors import UserError

APART = r"(?<![\w])(?<![\d][.,/-])"  # not inside a word or a longer number
END = r"(?![.,/-]?\d)(?!\w)"
KEYWORD = (  # "tel.", "telefonu:", "tel. nr"; not the end of "hotel"
    r"(?<!\w)(?i:tel|telefon\w{0,4}|kom|komórk\w{1,3}|mobil|fax|faks\w{0,3}|simu)\b[.:]{0,2}\s{0,3}"
    r"(?:(?i:nr|numer)\b[.:]{0,2}\s{0,3})?"
)


@dataclass(frozen=True)
class Identifier:
    """One kind of identifier.

    Attributes:
        placeholder: what stands in its place; no identifier's pattern matches it.
        pattern: of a candidate; a named group, where one matched, is the part that is masked.
        valid: whether the candidate's text is one.
    """

    placeholder: str
    pattern: re.Pattern[str]
    valid: Callable[[str], bool] = lambda text: True

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where it stands in `text`, from left to right, never overlapping."""
        for match in self.pattern.finditer(text):
            start, end = match.span(match.lastgroup or 0)
            if length := self._valid_length(text[start:end]):
                yield start, start + length

    def _valid_length(self, candidate: str) -> int:
        return len(candidate) if self.valid(candidate) else 0


class Iban(Identifier):
    """An IBAN may be followed by words in capitals, which its pattern takes in: the longest valid beginning counts."""

    def _valid_length(self, candidate: str) -> int:
        for length in range(len(candidate), 14, -1):
            if not candidate[length : length + 1].isalnum() and self.valid(candidate[:length]):
                return length
        return 0


def taj(text: str) -> bool:
    """Check digit of a Hungarian social security number (TAJ): weights 3 and 7 in turn, modulo 10."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    return sum(digit * (3, 7)[place % 2] for place, digit in enumerate(digits[:8])) % 10 == digits[8]


IDENTIFIERS = {
    "email": Identifier(
        "<EMAIL>", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[^\W_](?:[\w-]{0,62}\.[^\W_]){1,8}[\w-]{1,62}(?<!-)(?![\w-])")
    ),
    "iban": Iban("<IBAN>", re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ \u00a0-]?[0-9A-Z]){11,30}(?![0-9a-z])"), iban.is_valid),
    "nrb": Identifier(  # a Polish account number, an IBAN without its country
        "<IBAN>",
        re.compile(APART + r"\d{2}(?:[ \u00a0-]?\d{4}){6}" + END),
        lambda text: iban.is_valid("PL" + text.replace("\u00a0", "")),
    ),
    "phone": Identifier(  # abroad: a country's prefix before it
        "<PHONE>",
        re.compile(
            r"(?<![\w+])(?<!\d[ \u00a0-])(?:\(\+\d{1,3}\)|\+\d{1,3}|00\d{2}(?=[ \u00a0-]))(?:[ \u00a0-]?\d){7,11}" + END
        ),
    ),
    "phone_in_groups": Identifier(  # 601-234-567; 601 234 567 may be an amount, and needs a word before it
        "<PHONE>",
        re.compile(
            rf"(?:{KEYWORD}(?P<after>\d{{3}}[ -]?\d{{3}}[ -]?\d{{3}})|{APART}(?P<dashed>\d{{3}}-\d{{3}}-\d{{3}}))" + END
        ),
    ),
    "pesel": Identifier("<PESEL>", re.compile(APART + r"\d{11}" + END), pesel.is_valid),
    "nip": Identifier(
        "<NIP>", re.compile(APART + r"(?:PL ?)?(?:\d{10}|\d{3}-\d{3}-\d{2}-\d{2}|\d{3}-\d{2}-\d{2}-\d{3})" + END), nip.is_valid
    ),
    "rodne_cislo": Identifier("<RODNE_CISLO>", re.compile(APART + r"\d{6}/?\d{4}" + END), rc.is_valid),
    "adoszam": Identifier("<ADOSZAM>", re.compile(APART + r"\d{8}-\d-\d{2}" + END), lambda text: anum.is_valid(text[:8])),
    "taj": Identifier("<TAJ>", re.compile(APART + r"\d{3}-\d{3}-\d{3}" + END), taj),
}


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
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"language.identifiers: {name}: {error}") from None
    if not isinstance(found, Identifier):
        raise UserError(f"language.identifiers: {name} is a {type(found).__name__}, expected an Identifier")
    return found
