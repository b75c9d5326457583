r"""The number or formula inside the last `\boxed{}`."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import cache, lru_cache

from nemo_plugins.alignment.rewards import formula, symbolic, thinking
from nemo_plugins.alignment.rewards.formula import Value
from nemo_plugins.alignment.rewards.numerals import Style
from nemo_plugins.configs import language as languages

_EQUATION = re.compile(r"[^<>!:,{]=[^=,]+$")
LONG = Fraction(1, 10**5)  # five decimals or more are a rounded number's, not a price's

# An escaped character first: \{ and \} are no braces, and \\boxed{ is a line break and a word.
_BRACES = re.compile(r"\\boxed\s*+\{|\\.|[{}]", re.DOTALL)


def boxed_math(prompt: str, completion: str, reference: str, *, language: str = "pl") -> float:
    r"""1.0 where what is in the completion's last `\boxed{}` equals the reference, else 0.0; thinking is not read.

    Numbers are read as `language` writes them (`numerals.parse`) and compared as fractions: 0,5 = 1/2 = \frac{1}{2} = 50 %, but
    50 % is not 50. A power or a root is as good as the number that it is; a sum or a product that is still to be worked out is
    not, unless its result stands behind it ("17 + 25 = 42"). A unit may be left out or converted (12 cm = 0,12 m), another one
    (12 m, 12 kg) is wrong. `x =` before an answer changes nothing. Formulas, intervals and sets are math-verify's, in a
    process whose time and memory are bounded (`symbolic`): beyond them it is 0. One that the prompt has is 0.

    Tolerance: a value that no decimal writes (1/3, \sqrt{2}, \pi) is equal to a decimal of six significant digits or more
    within one of its last digit (0,333333, 3,14159), whichever of the two is the answer; all else is compared exactly, but for
    a decimal that is longer than one of five decimals or more.

    A box in a box is part of the outer one; a box cut off after the last whole one leaves no answer.

    Raises:
        ValueError: the reference is neither a number nor a formula.
    """
    style = number_style(language)
    wanted = _read(reference, style)
    if wanted is None:
        raise ValueError(f"the reference of boxed_math must be a number or a formula, got {reference[:100]!r}")
    answer = last_box(thinking.answer(completion))
    if answer is None or len(answer) > formula.LONGEST:
        return 0.0
    given = _read(answer, style)
    if given is None:
        return 0.0
    if wanted.number is not None and given.number is None and (worked_out := formula.equation(answer, style)):
        left, result = worked_out
        return 1.0 if _same(wanted, result) and symbolic.equal(result.latex, left) else 0.0
    copied = formula.compact(answer)
    if given.number is None and copied in formula.compact(prompt) and copied != formula.compact(reference):
        return 0.0
    formulas = wanted.number is None and given.number is None
    if formulas and _EQUATION.search(given.latex) and not _EQUATION.search(wanted.latex):
        left, right = given.latex.rsplit("=", 1)  # "(x+1)^2 = x^2+2x+1"
        if formula.compact(left) == formula.compact(right) or not symbolic.equal(right, left):
            return 0.0
        given = replace(given, latex=right)
    return 1.0 if _same(wanted, given) else 0.0


def readable(answer: str, language: str) -> bool:
    """Whether `boxed_math` can read what is in a box."""
    return _read(answer, number_style(language)) is not None


def _same(wanted: Value, given: Value) -> bool:
    if wanted.name and given.name and wanted.name != given.name and "(" not in wanted.name + given.name:
        return False
    if wanted.unit and given.unit and wanted.unit.kind != given.unit.kind:
        return False
    if wanted.number is not None and given.number is not None:
        if wanted.unit and given.unit:
            return wanted.amount == given.amount
        return wanted.number == given.number or _rounded(wanted, given) or _rounded(given, wanted)
    if wanted.number is not None and not formula.term(given.latex):
        return False
    if wanted.unit and given.unit and wanted.unit.size != given.unit.size:
        wanted, given = (replace(x, unit=None, latex=formula.scaled(x)) for x in (wanted, given))
    if formula.one_is_a_set(wanted.latex, given.latex):
        return False
    if formula.compact(wanted.latex) == formula.compact(given.latex):
        return True
    if symbolic.equal(wanted.latex, given.latex):
        return True
    step = wanted.step if wanted.number is not None else given.step if given.number is not None else None
    return step is not None and symbolic.equal(wanted.latex, given.latex, str(step))


def _rounded(exact: Value, decimal: Value) -> bool:
    """Whether the decimal is `exact` to its last digit, where no decimal is or it is the longer one of two long ones."""
    if exact.number is None or decimal.number is None or decimal.step is None:
        return False
    longer = exact.step is not None and exact.step < decimal.step <= LONG
    if _is_decimal(exact.number) and not longer:
        return False
    return abs(exact.number - decimal.number) < decimal.step


def _is_decimal(number: Fraction) -> bool:
    bottom = number.denominator
    for prime in (2, 5):
        while bottom % prime == 0:
            bottom //= prime
    return bottom == 1


@lru_cache(maxsize=20_000)
def _read(text: str, style: Style) -> Value | None:
    return formula.read(text, style)


@cache
def number_style(language: str) -> Style:
    language_words = languages.load(language)
    return Style(language_words.decimal_separator, tuple(language_words.thousands_separators))


def last_box(text: str) -> str | None:
    r"""What is inside the last whole `\boxed{…}` that is in no other; None where there is none, or where another box begins
    after it and never ends. One pass over the text, however its braces are nested."""
    opened: list[int] = []  # where the inside of each open box begins; −1 for any other brace
    boxes: list[tuple[int, int]] = []  # whole ones, none inside another
    for match in _BRACES.finditer(text):
        token = match[0]
        if token[-1] == "{" and token != r"\{":
            opened.append(-1 if token == "{" else match.end())
        elif token == "}" and opened:
            start = opened.pop()
            if start >= 0:
                while boxes and boxes[-1][0] > start:
                    boxes.pop()
                boxes.append((start, match.start()))
    if not boxes or any(start > boxes[-1][1] for start in opened):
        return None
    return text[slice(*boxes[-1])]
