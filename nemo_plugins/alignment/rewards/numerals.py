r"""Numbers as people and models write them, read exactly. A recursive-descent parser; nothing is ever evaluated.

    number   = [sign] value ["%"]
    value    = "{" number "}" | "(" number ")" | wrapper "{" number "}" | fraction | decimal [mixed | quotient | power]
    fraction = (\frac | \dfrac | \tfrac) argument argument,   argument = digit | "{" number "}"
    mixed    = a proper fraction after a whole number: 1\frac{1}{2}, 1 1/2
    quotient = "/" decimal
    power    = (\cdot | \times | · | × | *) 10^{exponent} | e exponent
    decimal  = digits, grouped in threes or not at all, with decimals and a period 0,(3) or without

Digits are 0 to 9 of ASCII: fullwidth and other digits are another text. So are words, units, roots and lists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 300  # characters of a number; int() of a long text takes its square in time
LARGEST_EXPONENT = 300
DEEPEST = 8

_SIGNS = {"-": -1, "−": -1, "–": -1, "+": 1}  # hyphen, minus, en dash
_SPACES = re.compile(r"\\[,;:! ]|[~\s]|\\(?:quad|left|right|displaystyle)(?![A-Za-z])")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_FRACTIONS = ("frac", "dfrac", "tfrac")
_WRAPPERS = ("boxed", "text", "textbf", "mathrm", "mathbf", "bf")
_DIGITS = re.compile(r"[0-9]+")
_GROUPS = "(?:{}[0-9]{{3}})+(?![0-9])"


class _NoNumber(Exception):
    """The text is no number."""


@dataclass(frozen=True)
class Style:
    """How a language writes numbers. A point is a decimal point in all of them, unless it separates thousands."""

    decimal: str = ","
    thousands: tuple[str, ...] = (" ", "\u00a0", "\u202f")


POLISH = Style()


def parse(text: str, style: Style = POLISH) -> Fraction | None:
    """The number that the whole text is, or None: time and memory are bounded whatever it is."""
    if len(text) > LONGEST:
        return None
    text = _SPACES.sub(" ", text).strip()
    for left, right in (("$", "$"), (r"\(", r"\)")):
        if text.startswith(left) and text.endswith(right) and len(text) > len(left + right):
            text = text[len(left) : -len(right)]
    text = text.replace("{,}", ",").replace(r"\%", "%")
    try:
        reader = _Reader(text, style)
        value = reader.number(0)
        return value if reader.ended() else None
    except _NoNumber:
        return None


class _Reader:
    def __init__(self, text: str, style: Style):
        self.text = text
        self.at = 0
        spaces = [" "] if any(x.isspace() for x in style.thousands) else []  # _SPACES made one of each kind of space
        groups = [re.escape(x) for x in [*spaces, *(x for x in style.thousands if not x.isspace())]]
        self.grouped = [re.compile(r"[1-9][0-9]{0,2}" + _GROUPS.format(x)) for x in groups]
        self.points = {style.decimal, "."} - set(style.thousands)

    def number(self, depth: int) -> Fraction:
        if depth > DEEPEST:
            raise _NoNumber
        sign = _SIGNS.get(self.peek(), 0)
        if sign:
            self.at += 1
        value = self.value(depth) * (sign or 1)
        return value / 100 if self.take("%") else value

    def value(self, depth: int) -> Fraction:
        for left, right in ("{}", "()"):
            if self.take(left):
                return self.closed(depth, right)
        command = self.command()
        if command in _FRACTIONS:
            return self.fraction(depth)
        if command in _WRAPPERS and self.take("{"):
            return self.closed(depth, "}")
        if command:
            raise _NoNumber
        whole, value = self.decimal()
        return self.after(whole, value, depth)

    def after(self, whole: bool, value: Fraction, depth: int) -> Fraction:
        """What may follow a decimal: a quotient, a power of ten, the fraction of a mixed number."""
        here = self.at
        if self.take("/"):
            return self.over(value, self.decimal()[1])
        if self.text[self.at : self.at + 1] in ("e", "E"):
            self.at += 1
            return value * self.power(self.exponent())
        command = self.command()
        if command in ("cdot", "times") or (not command and any(self.take(x) for x in "·×*")):
            if not (self.take("10") and self.take("^")):
                raise _NoNumber
            braced = self.take("{")
            value *= self.power(self.exponent())
            if braced and not self.take("}"):
                raise _NoNumber
            return value
        part = None
        if command in _FRACTIONS:
            part = self.fraction(depth)
        elif not command and self.peek().isascii() and self.peek().isdigit():
            top = self.decimal()[1]
            part = self.over(top, self.decimal()[1]) if self.take("/") else None
        if part is None:
            self.at = here
            return value
        if not (whole and 0 < part < 1):
            raise _NoNumber
        return value + part

    def fraction(self, depth: int) -> Fraction:
        return self.over(self.argument(depth), self.argument(depth))

    def argument(self, depth: int) -> Fraction:
        if self.take("{"):
            return self.closed(depth, "}")
        digit = self.peek()
        if not (digit.isascii() and digit.isdigit()):
            raise _NoNumber
        self.at += 1
        return Fraction(int(digit))

    def closed(self, depth: int, right: str) -> Fraction:
        value = self.number(depth + 1)
        if not self.take(right):
            raise _NoNumber
        return value

    def decimal(self) -> tuple[bool, Fraction]:
        """Whether it is written without decimals, and its value."""
        self.peek()
        match = next(filter(None, (x.match(self.text, self.at) for x in self.grouped)), None)
        match = match or _DIGITS.match(self.text, self.at)
        if match is None:
            raise _NoNumber
        self.at = match.end()
        value = Fraction(int(re.sub("[^0-9]", "", match[0])))
        if self.text[self.at : self.at + 1] not in self.points or not self.text[self.at : self.at + 1]:
            return True, value
        decimals = re.compile(r"([0-9]*)(?:\(([0-9]+)\))?").match(self.text, self.at + 1)
        if decimals is None or not (decimals[1] or decimals[2]):
            raise _NoNumber
        plain, period = decimals[1], decimals[2]
        self.at = decimals.end()
        value += Fraction(int(plain or 0), 10 ** len(plain))
        if period:
            value += Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(plain))
        return False, value

    def exponent(self) -> int:
        sign = _SIGNS.get(self.peek(), 0)
        self.at += bool(sign)
        match = _DIGITS.match(self.text, self.at)
        if match is None:
            raise _NoNumber
        self.at = match.end()
        return int(match[0]) * (sign or 1)

    @staticmethod
    def power(exponent: int) -> Fraction:
        if abs(exponent) > LARGEST_EXPONENT:
            raise _NoNumber
        return Fraction(10) ** exponent

    @staticmethod
    def over(top: Fraction, bottom: Fraction) -> Fraction:
        if not bottom:
            raise _NoNumber
        return top / bottom

    def command(self) -> str:
        r"""The name of the \command here, taken; nothing where there is none."""
        self.peek()
        match = _COMMAND.match(self.text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match[1]

    def peek(self) -> str:
        """The next character that is no space, or nothing."""
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, token: str) -> bool:
        self.peek()
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def ended(self) -> bool:
        return not self.peek()
