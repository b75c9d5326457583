"""Numbers with a checksum, however their digits are grouped and whatever stands between the groups.

The checksum knows no groups, so neither do these: spaces of any kind, hyphens and dashes, dots and slashes part them. Other
numbers are kept out by the checksum, by what stands around a candidate and by its groups: amounts, decimal fractions, dates,
IPv4 addresses and parts of longer numbers are no identifiers. After the identifier's own name (NIP, PESEL, …) only the
checksum counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nemo_plugins.data.personal.identifier import Identifier

SPACE = " \t\u00a0\u2000-\u200a\u202f\u205f\u3000"
APART = rf"(?:[{SPACE}]{{1,2}}|[{SPACE}]?[-./_·\u2010-\u2015\u2212][{SPACE}]?)"
RUN = re.compile(rf"\d(?:{APART}?\d){{7,}}")
CLOCK = re.compile(r":\d")
GROUP = re.compile(r"\d+")
MONEY = re.compile(  # an amount goes on like this
    rf"(?:[.,]\d{{1,2}}(?!\d|[,;]\S))?[{SPACE}]?(?:[€$£%]|(?i:zł\w*|pln|eur\w*|usd|gbp|chf|czk|kč|huf|ft|tsh|ksh|tys|mln|mld|proc)\b)"
)
CENTS = re.compile(r"[.,]\d{1,2}(?!\d|[,;]\S)")
FRACTION = re.compile(r"(?:^|[^\w.,;/-])(?P<whole>[+-]?\d{1,15})[.,]$")
OTHER = re.compile(  # these are numbers of something else
    r"(?i:isbn|issn|ismn|ean|gtin|upc|sku|asin|krs|regon|doi|kod\w* (?:produktu|kreskow\w+)|nr (?:kat|ref|art|ser)\w*)"
    r"(?:[- ]?1[03])?[\W_]{0,3}$"
)
BEFORE = 48  # characters in front of a candidate that are looked at for a name


@dataclass(frozen=True)
class DigitGroup:
    """Digits in a row: where they stand and what they are; `gap` is what stands between them and the group before."""

    start: int
    end: int
    digits: str
    gap: str


@dataclass(frozen=True)
class Number(Identifier):
    """An identifier of so many digits.

    Attributes:
        pattern: of a run of digits; `RUN`.
        valid: of the digits alone.
        length: digits it has.
        name: words in front of it that say what it is, a regular expression.
        country: letters that may stand in front and belong to it.
        usual: digits of its groups as it is often written; then what stands between them may differ.
        named_only: of its groups: whether they count only behind its name.
    """

    pattern: re.Pattern[str] = RUN
    length: int = 0
    name: str = r"(?!)"
    country: str = ""
    usual: tuple[tuple[int, ...], ...] = ()
    named_only: Callable[[list[DigitGroup]], bool] = lambda groups: False
    _names: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _countries: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        between = r"(?:[^\w<>]|_){0,3}(?:(?i:nr|no|numer\w{0,2}|číslo|szám\w{0,3})[^\w<>]{0,3})?"  # no placeholder is a name
        names = re.compile(rf"(?<![^\W_])(?:{self.name}){between}$")
        country = rf"(?<![^\W_])(?i:{self.country}){APART}?$" if self.country else r"(?!)"
        object.__setattr__(self, "_names", names)
        object.__setattr__(self, "_countries", re.compile(country))

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        for run in self.pattern.finditer(text):
            if run.end() - run.start() < self.length:
                continue
            groups = split(text, run.start(), run.end())
            first = 0
            while first < len(groups):
                last = _reach(groups, first, self.length)
                if last is None or (begin := self._begin(text, groups, first, last)) is None:
                    first += 1
                    continue
                yield begin, groups[last].end
                first = last + 1

    def _begin(self, text: str, groups: list[DigitGroup], first: int, last: int) -> int | None:
        """Where the identifier of these groups starts, its country's letters included; None where it is none."""
        start, end = groups[first].start, groups[last].end
        if in_word(text[end : end + 1]):
            return None
        before = "" if first else text[max(0, start - BEFORE) : start]  # behind other digits there is no name
        country = None if first or _goes_on(groups, first, last) else self._countries.search(before)
        if not (country or (before and self._names.search(before)) or self._stands_alone(text, groups, first, last)):
            return None
        digits = "".join(group.digits for group in groups[first : last + 1])  # checked last: it takes longest
        return start - len(country[0] if country else "") if self.valid(digits) else None

    def _stands_alone(self, text: str, groups: list[DigitGroup], first: int, last: int) -> bool:
        taken = groups[first : last + 1]
        start, end = taken[0].start, taken[-1].end
        if _goes_on(groups, first, last) or (len(taken) > 1 and not self._is_grouped(text, taken)):
            return False
        if in_word(text[start - 1 : start]) or text[start - 1 : start] == "+" or self.named_only(taken):
            return False
        return not is_amount(text, start, end) and not OTHER.search(text[max(0, start - BEFORE) : start])

    def _is_grouped(self, text: str, taken: list[DigitGroup]) -> bool:
        """Whether someone may have grouped the identifier like this."""
        if CLOCK.match(text, taken[-1].end) or is_address(taken):
            return False
        if tuple(len(group.digits) for group in taken) in self.usual:
            return True
        return len({kind(group.gap) for group in taken[1:]}) == 1 and is_plausible(taken)


def in_word(character: str) -> bool:
    """Whether a letter or digit; an underscore, as in names of files, ends a word."""
    return character.isalnum()


def kind(gap: str) -> str:
    """What a gap is: its sign, or a space."""
    sign = gap.strip()
    return " " if not sign else "-" if sign not in "./_·" else sign


def split(text: str, start: int, end: int) -> list[DigitGroup]:
    """The groups of a run of digits."""
    groups, before = [], start
    for match in GROUP.finditer(text, start, end):
        groups.append(DigitGroup(match.start(), match.end(), match[0], text[before : match.start()]))
        before = match.end()
    return groups


def is_thousands(lengths: list[int]) -> bool:
    """Whether groups are those of an amount: 44 051 401 359."""
    return len(lengths) > 1 and lengths[0] <= 3 and set(lengths[1:]) == {3}


def is_date(groups: list[DigitGroup]) -> bool:
    """Whether groups begin as a date: 2024-05-12, 12.05.2024."""
    if len(groups) < 3:
        return False
    lengths = [len(group.digits) for group in groups[:3]]
    if lengths == [4, 2, 2]:
        year, month, day = (int(group.digits) for group in groups[:3])
    elif lengths == [2, 2, 4]:
        day, month, year = (int(group.digits) for group in groups[:3])
    else:
        return False
    return 1000 <= year < 2200 and 1 <= month <= 12 and 1 <= day <= 31


def is_address(groups: list[DigitGroup]) -> bool:
    """Whether groups are an IPv4 address."""
    return (
        len(groups) == 4
        and all(kind(group.gap) == "." for group in groups[1:])
        and all(int(group.digits) < 256 for group in groups)
    )


def is_plausible(groups: list[DigitGroup]) -> bool:
    """Whether someone may have grouped an identifier like this: no amount, no date, no single digits as of an ISBN."""
    lengths, between = [len(group.digits) for group in groups], kind(groups[1].gap)
    return min(lengths) > 1 and not is_date(groups) and not (between in " ." and is_thousands(lengths))


def is_amount(text: str, start: int, end: int) -> bool:
    """Whether it is an amount of money or a part of a decimal number; a field of comma-separated values is neither."""
    if MONEY.match(text, end):
        return True
    ends_field = text[end : end + 1] in (",", ";", "|", "/") and text[end + 1 : end + 2].strip() != ""
    before = text[max(0, start - 20) : start]
    line = before[before.rfind("\n") + 1 :]  # its last 20 characters before the candidate
    if line and CENTS.match(text, end):
        return True
    fraction = FRACTION.search(line)
    if fraction is None or ends_field:
        return False
    whole_line = len(line) == len(fraction["whole"]) + 1 and text[end : end + 1] in ("", "\n")
    return not whole_line or int(fraction["whole"]) == 0


def _goes_on(groups: list[DigitGroup], first: int, last: int) -> bool:
    """Whether they are a part of a longer number, parted in the same way; several digits behind a hyphen or dot, of a code."""
    within = {kind(group.gap) for group in groups[first + 1 : last + 1]}
    beyond = [(groups[first].gap, groups[first - 1].digits)] if first else []
    beyond += [(group.gap, group.digits) for group in groups[last + 1 : last + 2]]
    if within:
        return any(kind(gap) in within for gap, _ in beyond)
    return any(len(digits) > 2 and gap in "-." for gap, digits in beyond)


def _reach(groups: list[DigitGroup], first: int, length: int) -> int | None:
    """The group at which so many digits end that begin at `first`; None where no group ends there."""
    count = 0
    for last in range(first, len(groups)):
        count += len(groups[last].digits)
        if count >= length:
            return last if count == length else None
    return None
