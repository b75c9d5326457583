"""Units behind a number: which are the same kind, and how many of one are another. Own choice: what school books use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

# Of each kind, units and how many of the kind's first unit they are.
_KINDS: dict[str, dict[str, int | str]] = {
    "length": {"m": 1, "mm": "1/1000", "cm": "1/100", "dm": "1/10", "km": 1000},
    "mass": {"kg": 1, "g": "1/1000", "dag": "1/100", "mg": "1/1000000", "t": 1000},
    "time": {"s": 1, "sek": 1, "min": 60, "h": 3600, "godz": 3600, "ms": "1/1000"},
    "volume": {"l": 1, "L": 1, "ml": "1/1000", "hl": 100},
    "money": {"zł": 1, "zl": 1, "PLN": 1, "gr": "1/100"},
    "euro": {"€": 1, "EUR": 1, "euro": 1},
    "dollar": {"$": 1, "USD": 1},
    "angle": {"°": 1, "^circ": 1},
    "temperature": {"°C": 1, "K": 1},
    "speed": {"m/s": 1, "km/h": "5/18", "km/godz": "5/18"},
    "acceleration": {"m/s^2": 1},
    "density": {"kg/m^3": 1, "g/cm^3": 1000},
    "force": {"N": 1, "kN": 1000},
    "energy": {"J": 1, "kJ": 1000, "MJ": 1000000},
    "power": {"W": 1, "kW": 1000},
    "pressure": {"Pa": 1, "hPa": 100, "kPa": 1000},
    "voltage": {"V": 1},
    "current": {"A": 1, "mA": "1/1000"},
    "resistance": {"Ω": 1},
    "pieces": {"szt": 1, "sztuk": 1, "sztuki": 1},
    "area": {"ha": 10000, "a": 100},
}
_WORDS = {  # the whole word by its beginning, in any case
    "milimetr": "mm",
    "centymetr": "cm",
    "decymetr": "dm",
    "kilometr": "km",
    "metr": "m",
    "kilogram": "kg",
    "dekagram": "dag",
    "miligram": "mg",
    "gram": "g",
    "ton": "t",
    "sekund": "s",
    "minut": "min",
    "godzin": "h",
    "mililitr": "ml",
    "litr": "l",
    "złot": "zł",
    "grosz": "gr",
    "stopni": "°",
    "stopień": "°",
}
_COUNTS = {"tys": 10**3, "tysi": 10**3, "mln": 10**6, "milion": 10**6, "mld": 10**9, "miliard": 10**9}
# What no thing that is counted is called: it changes the answer.
_NO_THINGS = frozenset(
    """lub albo czy i oraz bądź nie może chyba około ponad mniej więcej raz razy z na do od jest to tuzin pół procent
    promil""".split()
)

_SQUARE = {"mm", "cm", "dm", "m", "km"}
_TABLE = {unit: (kind, Fraction(size)) for kind, units in _KINDS.items() for unit, size in units.items()}
_TABLE |= {f"{unit}^{n}": (f"length^{n}", _TABLE[unit][1] ** n) for unit in _SQUARE for n in (2, 3)}
_WORD = re.compile(r"[^\W\d_]{2,20}")


@dataclass(frozen=True)
class Unit:
    """What is behind a number: of `kind`, and `size` of the kind's first unit; a thing that is counted is a kind of its own."""

    kind: str
    size: Fraction = Fraction(1)


def unit(text: str) -> tuple[Unit, int] | None:
    """The unit that the text is, and how many it counts at once ("tys. zł": 1000); None where it is none."""
    words, count = text.replace(". ", " ").strip().rstrip(".").split(), 1
    if words and (by := next((n for start, n in _COUNTS.items() if re.fullmatch(rf"{start}\w{{0,5}}\.?", words[0])), 0)):
        words, count = words[1:], by
    rest = " ".join(words)
    if not rest:
        return (Unit(""), count) if count > 1 else None
    if rest in _TABLE:
        return Unit(*_TABLE[rest]), count
    named = next((symbol for start, symbol in _WORDS.items() if re.fullmatch(rf"(?i:{start})\w{{0,3}}", rest)), None)
    if named:
        return Unit(*_TABLE[named]), count
    if all(_WORD.fullmatch(word) and word.lower() not in _NO_THINGS for word in words) and len(words) <= 3:
        return Unit(f"{words[0][:3].lower()}…"), count
    return None
