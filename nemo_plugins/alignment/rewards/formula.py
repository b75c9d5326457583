r"""What stands in a box, or is a reference: a number, a quantity, or a formula as Polish school books and models write it.

An assignment (`x =`, `f'(x) =`, `x \in`) is split off; what remains is a number (`numerals`), a number with a unit
(`quantities`), or a formula in LaTeX for `symbolic`, with the decimal commas, `;`, `\langle … \rangle`, `lub` and `\tg` of
Polish in the form that math-verify knows. Nothing is evaluated here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from nemo_plugins.alignment.rewards import numerals, quantities
from nemo_plugins.alignment.rewards.numerals import Style

LONGEST = 300  # characters

_NAME = r"[A-Za-z]'{0,2}(?:_\{?\w{1,4}\}?)?(?:\([^()=]{1,20}\))?|[^\W\d_]{2,20}|\|[A-Z]{1,3}\||\\[a-z]{2,8}"
_ASSIGNED = re.compile(rf"({_NAME})\s*(?:=|:=|\\in(?![A-Za-z])|∈)\s*(?!=)")
_OPTION = re.compile(r"\s*(?:\b(?:lub|albo|bądź|oraz|i)\b|\\(?:lor|vee|land|wedge)(?![A-Za-z]))\s*")
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|bf|rm|operatorname|mbox)\*?\s*\{([^{}]*)\}")
_SPACE = re.compile(r"\\[,;:! ]|~|\s|\\(?:quad|qquad|left|right|displaystyle|big|Big|limits)(?![A-Za-z])")
_QUOTIENT = re.compile(r"\\d?frac\{\s*([a-zA-Zł]{1,3})\s*\}\{\s*([a-z]{1,4}(?:\^\{?[23]\}?)?)\s*\}$")
_UNIT = re.compile(r"([^\W\d_].{0,40}|°C?|€|\$|\^\\?circ)$")
_QUANTITY = re.compile(r"(-?[\d .,]*\d)\s*([^\W\d_]{1,5})\.?(?:\s+|$)")
_PAIR = re.compile(r"\(.*,.*\)")  # a point or an interval, no number in brackets
_BRACKETS = re.compile(r"[(\[][^()\[\]]*,[^()\[\]]*[)\]]")
_PERIOD = re.compile(r"(\d+)[.,](\d+)$")
_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "·": r"\cdot ", "×": r"\cdot ", "∗": "*", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ",
     "≥": r"\ge ", "≠": r"\ne ",
     "∪": r"\cup ", "⟨": r"\langle ", "⟩": r"\rangle ",
     "²": "^2", "³": "^3", "ℝ": r"\mathbb{R}", "∅": r"\emptyset "}
)  # fmt: skip

_COMMANDS = frozenset(
    r"""frac dfrac tfrac sqrt pi cdot times div infty cup cap le ge leq geq lt gt ne neq in notin pm sin cos tan cot sec csc
    tg ctg arcsin arccos arctan
    ln log lg exp alpha beta gamma delta epsilon theta lambda mu rho sigma tau phi varphi omega mathbb
    setminus emptyset varnothing langle rangle begin end circ binom lvert rvert vert overline""".split()
)
_SHORT_WORDS = frozenset("no to do na od za ok kg cm km mm ml".split())
_WORDS = frozenset("sin cos tan cot tg ctg ln log exp pmatrix bmatrix matrix sqrt pi".split())
_ALLOWED = re.compile(r"[A-Za-z0-9\\{}()\[\]^_+\-*/.,;:=<>|!' &%°]*")
_COMMAND, _LETTERS = re.compile(r"\\([A-Za-z]+)"), re.compile(r"(?<![A-Za-z])[A-Za-z]{2,}")
_POWER = re.compile(r"\^\s*(?:\{([^{}]*)\}|(.))")
_TERM = re.compile(r"[0-9 .,{}^\[\]\-]*")  # what a number's spelling may have beside \sqrt and \frac
_UNDONE = re.compile(r"[\d)}\]]\s*-|-\s*-|\d\s+\d")  # a difference, two signs, numbers in a row


@dataclass(frozen=True)
class Value:
    r"""What was read.

    Attributes:
        name: what it is assigned to, "" for nothing.
        number: None of a formula.
        step: of a decimal with six significant digits or more, one of its last digit; None of all other numbers.
        unit: None without one.
        latex: for `symbolic`.
    """

    name: str
    number: Fraction | None
    step: Fraction | None
    unit: quantities.Unit | None
    latex: str

    @property
    def size(self) -> Fraction:
        """Of the unit, in its kind's first one."""
        return self.unit.size if self.unit else Fraction(1)

    @property
    def amount(self) -> Fraction | None:
        """The number in its kind's first unit; None of a formula."""
        return None if self.number is None else self.number * self.size


def read(text: str, style: Style) -> Value | None:
    """What the text says; None where it is neither a number nor a formula."""
    if len(text) > LONGEST:
        return None
    text = _plain(text)
    name = ""
    if match := _ASSIGNED.match(text):
        name, text = match[1], text[match.end() :]
    return _value(name, text.strip(), style)


def equation(text: str, style: Style) -> tuple[str, Value] | None:
    r"""Of "17 + 25 = 42" the formula to the left and the number to the right; None of anything else."""
    left, equals, right = _plain(text).rpartition("=") if len(text) <= LONGEST else ("", "", "")
    value = _value("", right.strip(), style) if equals and "=" not in left else None
    formula = _formula(left)
    return (formula, value) if value and value.number is not None and formula and not _LETTERS.search(formula) else None


def term(latex: str) -> bool:
    r"""Whether a formula is one number's spelling, `2^{10}` or `\sqrt{4}`: what is left to add or to multiply is no result."""
    commands = _COMMAND.findall(latex)
    rest = _COMMAND.sub("", latex)
    spelled = ("sqrt" in commands or "^" in latex) and set(commands) <= {"sqrt", "frac"}
    return spelled and bool(_TERM.fullmatch(rest)) and not _UNDONE.search(rest)


def scaled(value: Value) -> str:
    """The formula in its kind's first unit."""
    return rf"{_exact(value.size)}\cdot ({value.latex})"


def one_is_a_set(left: str, right: str) -> bool:
    """Whether one of the two is a set and the other a point or an interval, which math-verify takes for equal."""
    one, other = sorted((left, right), key=lambda x: not x.startswith(r"\{"))
    return one.startswith(r"\{") and bool(_BRACKETS.fullmatch(other))


def compact(text: str) -> str:
    """The text without spaces and dollars, to see whether two are written alike."""
    return re.sub(r"[\s$]|\\(?:[,;:! ]|left|right)", "", text)


def _plain(text: str) -> str:
    """The text without its dollars, thin spaces and wrappers of words, with one sign for each thing."""
    text = _TEXT.sub(r" \1 ", _TEXT.sub(r" \1 ", text)).replace("{,}", ",").replace(r"\%", "%")
    text = _SPACE.sub(" ", text.replace(r"\{", "⦃").replace(r"\}", "⦄")).strip()
    for left, right in (("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if text.startswith(left) and text.endswith(right) and len(text) > len(left + right):
            text = text[len(left) : -len(right)].strip()
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "°", text).translate(_SIGNS)
    if text.endswith(".") and not text.endswith(".."):
        text = text[:-1].rstrip()
    while text.startswith("{") and text.endswith("}") and text.count("{") == 1:
        text = text[1:-1].strip()
    return " ".join(text.split())


def _value(name: str, text: str, style: Style) -> Value | None:
    number = None if _PAIR.fullmatch(text) else numerals.parse(text, style)
    if number is not None:
        return Value(name, number, _step(text), None, _exact(number))
    if (amount := _together(text, style)) is not None:
        return Value(name, amount[0], None, amount[1], _exact(amount[0]))
    for at, unit, count in _units(text):
        body = text[:at].strip()
        number = numerals.parse(body, style)
        if number is not None:
            return Value(name, number * count, _step(body), unit, _exact(number * count))
        known = unit.size != 1 or len(unit.kind) > 4
        if known and count == 1 and text[at - 1] in " }" and (latex := _formula(body)):
            return Value(name, None, None, unit, latex)
    latex = _formula(text)
    return Value(name, None, None, None, latex) if latex else None


def _units(text: str):
    """Where a unit may begin in the text, from its longest on."""
    if quotient := _QUOTIENT.search(text):
        unit = quantities.unit(f"{quotient[1]}/{re.sub('[{}]', '', quotient[2])}")
        if unit:
            yield quotient.start(), *unit
    for place in re.finditer(r"(?<=[\d)}%])\s*(?=[^\W\d_]|[°€$])|(?<=\s)(?=[^\W\d_])", text):
        if not _UNIT.match(text, place.end()) or text[place.end() - 1 : place.end()] == "\\":
            continue
        spelled = re.sub(r"[{}]", "", text[place.end() :]).replace(" ^", "^").replace("^ ", "^").strip()
        unit = quantities.unit(spelled)
        if unit and (len(spelled) > 1 or not spelled.isalpha() or text[place.end() - 1] == " "):
            yield place.end(), *unit


def _together(text: str, style: Style) -> tuple[Fraction, quantities.Unit] | None:
    """ "2 h 30 min", "5 zł 50 gr": the amount in the first of its units."""
    parts = list(_QUANTITY.finditer(text))
    if len(parts) < 2 or "".join(part[0] for part in parts) != text:
        return None
    amounts: list[tuple[Fraction, quantities.Unit]] = []
    for part in parts:
        number, unit = numerals.parse(part[1], style), quantities.unit(part[2])
        if number is None or unit is None or unit[1] != 1 or unit[0].kind.endswith("…"):
            return None
        amounts.append((number, unit[0]))
    units = [unit for _, unit in amounts]
    if len({unit.kind for unit in units}) != 1 or [unit.size for unit in units] != sorted({unit.size for unit in units})[::-1]:
        return None
    return sum((number * unit.size for number, unit in amounts), Fraction()) / units[0].size, units[0]


def _step(text: str) -> Fraction | None:
    match = _PERIOD.search(text.replace(" ", "").rstrip("%"))
    if not match or len((match[1] + match[2]).lstrip("0")) < 6:
        return None
    return Fraction(1, 10 ** len(match[2]) * (100 if text.endswith("%") else 1))


def _exact(number: Fraction) -> str:
    sign = "-" if number < 0 else ""
    top, bottom = abs(number.numerator), number.denominator
    return f"{sign}{top}" if bottom == 1 else rf"{sign}\frac{{{top}}}{{{bottom}}}"


def _formula(text: str) -> str | None:
    """The text as LaTeX that math-verify reads, without decimals; None where it is no formula."""
    text = text.replace("⦃", r"\{").replace("⦄", r"\}").strip()
    text = re.sub(r"√\s*\(([^()]*)\)|sqrt\(([^()]*)\)", lambda x: rf"\sqrt{{{x[1] or x[2]}}}", text)
    text = re.sub(r"√\s*(\d+|[a-z])", r"\\sqrt{\1}", text)
    text = re.sub(r"\\(?:operatorname\{)?(c?)tg\}?(?![A-Za-z])", lambda x: r"\cot" if x[1] else r"\tan", text)
    text = re.sub(r"\\langle|^<(?=[^<>]*[;,][^<>]*[>)]$)", "[", text)  # Polish for a closed end of an interval
    text = re.sub(r"\\rangle|(?<=[;,])([^<>;,]*)>$", r"\1]", text)
    text = re.sub(r"\\sqrt\[(\d?[13579])\]\{\s*-\s*([^{}+-]*)\}", r"-\\sqrt[\1]{\2}", text)  # the real root
    text = re.sub(r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi ", text)
    items = _items(text)
    if len(items) > 1:
        items = [_ASSIGNED.sub("", item, count=1) if _ASSIGNED.match(item) else item for item in items]
        text = r"\{" + ", ".join(items) + r"\}"
    elif text.startswith(r"\{") and text.endswith(r"\}"):
        inside = text[2:-2] if ";" in text else text[2:-2].replace(",", ", ")
        text = r"\{" + ", ".join(_items(inside)) + r"\}"
    text = _decimals(text)
    if not text or not _ALLOWED.fullmatch(text):
        return None
    words = _LETTERS.findall(_COMMAND.sub(" ", text))
    if not set(_COMMAND.findall(text)) <= _COMMANDS or any(word not in _WORDS for word in words if not _product(word)):
        return None
    if not re.search(r"[0-9A-Za-z]", text) or text.count("{") != text.count("}") or _towers(text):
        return None
    return text


def _product(word: str) -> bool:
    """Letters in a row that a formula may multiply: two of them, no word."""
    return len(word) <= 2 and word.lower() not in _SHORT_WORDS


def _items(text: str) -> list[str]:
    """What a list of solutions has: parted by `lub`, by `;`, or by commas that are not in a number nor in brackets."""
    parts: list[str] = []
    depth, here, at = 0, "", 0
    semicolon = _outside(text, ";")
    while at < len(text):
        option = _OPTION.match(text, at) if depth == 0 and at else None
        if option:
            parts, here, at = [*parts, here], "", option.end()
            continue
        character = text[at]
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        within = text[at - 1 : at].isdigit() and text[at + 1 : at + 2].isdigit()  # a number, with or without decimals
        if depth == 0 and (character == ";" or (character == "," and not semicolon and not within)):
            parts, here = [*parts, here], ""
        else:
            here += character
        at += 1
    return [part.strip() for part in (*parts, here) if part.strip()]


def _outside(text: str, mark: str) -> bool:
    depth = 0
    for character in text:
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == mark and depth == 0:
            return True
    return False


def _decimals(text: str) -> str:
    """Decimals as fractions, exact ones; inside brackets without a `;` a comma parts two numbers, `[0,1]`."""
    pairs = re.compile(r"[(\[][^()\[\];]*[)\]]")
    text = pairs.sub(lambda x: x[0].replace(",", ", "), text)
    text = re.sub(r"(?<=\d) (?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(\d{1,30})[.,](\d{1,30})(?!\d)", lambda x: rf"\frac{{{int(x[1] + x[2])}}}{{{10 ** len(x[2])}}}", text)
    text = re.sub(r"(\d+(?:\})?)\s*%", r"\1 \\cdot \\frac{1}{100}", text)
    return text.replace(";", ",").replace("°", r"^{\circ}")


def _towers(text: str) -> bool:
    """Whether a power has a power, or an exponent of four digits or more: no answer, and no time is spent on it."""
    for match in _POWER.finditer(text):
        exponent = match[1] if match[1] is not None else match[2]
        if re.search(r"\d{4}", exponent) or text[match.end() :].lstrip(" }").startswith("^"):
            return True
    return bool(re.search(r"\^\s*\{[^{}]*\^", text))
