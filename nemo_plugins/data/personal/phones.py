"""Telephone numbers: they have no checksum, so a prefix, a word in front or the grouping says what they are.

601 234 567 is an amount unless a word such as "tel." stands in front of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from nemo_plugins.data.personal.identifier import Identifier
from nemo_plugins.data.personal.numbers import CENTS, MONEY, SPACE, DigitGroup, in_word, is_date, is_thousands, split

DASH = r"\-\u2010-\u2015\u2212"
APART = rf"(?:[{SPACE}]{{0,2}}[()./·{DASH}]{{0,2}}[{SPACE}]?)"  # bounded; area codes stand in brackets
PLACEHOLDER = "<PHONE>"
WORD = re.compile(  # "tel.", "telefonu:", "tel./fax", "tel. kom. nr"; not the end of "hotel"
    r"(?:(?<![^\W_])(?i:tel|telefon\w{0,9}|kom|komórk\w{1,3}|mob|mobil\w{0,3}|fax|faks\w{0,3}|simu|zadzwo\w{1,5}|dzwo[nń]\w{0,4}"
    r"|sms|whatsapp|infolini\w{1,3})(?![^\W\d_])|[☎✆📞📱])[^\w<(+]{0,3}"
    r"(?:(?i:nr|no|numer\w{0,2}|kom|komórk\w{1,5}|stacj\w{0,8}|służb\w{0,5}|dom|domow\w{1,3}|kontakt\w{0,5}|alarm\w{0,5}|fax"
    r"|faks|tel|mobil\w{0,3}|pod|do|na|biur\w{1,2}|sekretariat\w{0,2}|číslo|szám\w{0,3}|namba|ya)(?![^\W\d_])[^\w<(+]{0,3}){0,4}"
)
RUN = re.compile(rf"\(?\d(?:{APART}\d){{6,}}")
NEXT = re.compile(rf"[{SPACE}]?(?:[,;/]|(?i:i|lub|albo|oraz|tel|fax|faks|nebo|a|vagy|au|na)\b[.:]?)[{SPACE}]?")
GROUPED = re.compile(  # as no amount is: 601-234-567, 601.234.567, (22) 123 45 67, 22 123-45-67
    rf"(?<![^\W_])(?<!\d[.{DASH}])(?:\d{{3}}(?P<dash>[{DASH}])\d{{3}}(?P=dash)\d{{3}}"
    r"|(?P<dots>(?:45|5[0137]|6[069]|7[236-9]|88)\d\.\d{3}\.\d{3})"  # the networks' own first digits, in Poland and Czechia
    rf"|\(0?[{DASH}{SPACE}]?[1-9]\d\)[{SPACE}]?\d{{3}}[{SPACE}{DASH}]?\d{{2}}[{SPACE}{DASH}]?\d{{2}}"
    rf"|\([1-9]\d{{2}}\)[{SPACE}]?\d{{3}}[{SPACE}{DASH}]?\d{{3}}"
    rf"|(?:0[{DASH}{SPACE}]?)?[1-9]\d[{SPACE}/{DASH}]\d{{3}}[{DASH}]\d{{2}}[{DASH}]\d{{2}})(?![.{DASH}]?\d)(?!\w)"
)
HUNGARIAN = re.compile(
    rf"(?<![^\W_])(?<!\d[.,{DASH}])\(?06{APART}(?:1|20|30|31|50|70|[2-9]\d){APART}\d{{3}}[{SPACE}{DASH}]?\d{{3,4}}(?![.{DASH}]?\d)(?!\w)"
)
LENGTHS = {"48": (11,), "420": (12,), "421": (12,), "36": (11, 10), "255": (12,), "254": (12,)}  # digits with the country's
LONGEST, SHORTEST = 14, 8  # E.164 allows 15, which nobody has


@dataclass(frozen=True)
class Abroad(Identifier):
    """A number with its country's code: +48 (22) 123 45 67, (+48) 22 123 45 67, 0048 22 123 45 67."""

    placeholder: str = PLACEHOLDER
    pattern: re.Pattern[str] = re.compile(
        rf"(?<![\w+])(?P<open>\()?(?:(?P<plus>\+[{SPACE}]?)|(?<!\d[{SPACE}.,/{DASH}])(?=00))(?P<number>\d(?:{APART}\d){{7,}})"
    )

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        for run in self.pattern.finditer(text):
            groups = split(text, run.start("number"), run.end("number"))
            zeros = 0 if run["plus"] else 2
            code = "".join(group.digits for group in groups)[zeros:]
            usual = next((lengths for country, lengths in LENGTHS.items() if code.startswith(country)), ())
            if zeros and not usual and len(groups[0].digits) != 4:
                continue  # many a number begins with 00
            lengths = [length + zeros for length in usual] + list(range(LONGEST + zeros, SHORTEST + zeros - 1, -1))
            last = _reach(groups, lengths)
            if last is None or in_word(text[groups[last].end : groups[last].end + 1]) or MONEY.match(text, groups[last].end):
                continue
            end = groups[last].end
            yield run.start() + (bool(run["open"]) and ")" not in text[run.start() : end]), end


@dataclass(frozen=True)
class Domestic(Identifier):
    """A number behind a word such as "tel.", others behind it, and those whose grouping no amount has."""

    placeholder: str = PLACEHOLDER
    pattern: re.Pattern[str] = GROUPED

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        grouped = [(match.start(), match.end()) for match in self.pattern.finditer(text) if not self._amount(text, match)]
        end = 0
        for start, stop in sorted({*_named(text), *grouped}, key=lambda span: (span[0], -span[1])):
            if start >= end:
                yield start + (text[start] == "(" and ")" not in text[start:stop]), stop
                end = stop

    @staticmethod
    def _amount(text: str, match: re.Match[str]) -> bool:
        dotted = match.groupdict().get("dots") is not None
        return bool(MONEY.match(text, match.end()) or (dotted and CENTS.match(text, match.end())))


def _named(text: str) -> Iterator[tuple[int, int]]:
    """Numbers behind a word, and those that a comma or an "or" adds to them."""
    for word in WORD.finditer(text):
        at = word.end()
        while True:
            if text.startswith(PLACEHOLDER, at):
                end = at + len(PLACEHOLDER)
            else:
                run = RUN.match(text, at)
                last = _last(text, groups := split(text, run.start(), run.end())) if run else None
                if last is None:
                    break
                end = groups[last].end
                yield (at if ")" in text[at:end] else groups[0].start), end
            following = NEXT.match(text, end)
            if not following:
                break
            at = following.end()


def _last(text: str, groups: list[DigitGroup]) -> int | None:
    """The group with which a number behind a word ends; None where it is none."""
    first = groups[0].digits
    digits = "".join(group.digits for group in groups)
    lengths = (11, 10) if digits.startswith("06") else (10, 11) if first[0] == "0" else (9, 11) if digits[:2] == "48" else (9,)
    last = _reach(groups, lengths)
    if last is None and len(digits) in (7, 8):
        years = [len(group.digits) for group in groups] == [4, 4] and first[:2] in ("19", "20")
        last = None if years or is_date(groups) or is_thousands([len(group.digits) for group in groups]) else len(groups) - 1
    if last is None or in_word(text[groups[last].end : groups[last].end + 1]) or MONEY.match(text, groups[last].end):
        return None
    return last


def _reach(groups: list[DigitGroup], lengths: list[int] | tuple[int, ...]) -> int | None:
    """The group with which a number of one of these lengths ends, the first length that a group ends with."""
    ends, count = {}, 0
    for place, group in enumerate(groups):
        count += len(group.digits)
        ends[count] = place
        if count > LONGEST + 2:
            break
    return next((ends[length] for length in lengths if length in ends), None)
