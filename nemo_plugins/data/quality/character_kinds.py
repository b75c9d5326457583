"""What each character is to the quality features: one small number a character, looked up in a table of the language."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nemo_plugins.configs.schema import LanguageConfig

# letters first, so that `kind <= LAST_LETTER` and not 0 is "a letter"
NAMES = (
    "other", "plain_lower", "plain_upper", "own_lower", "own_upper", "foreign_lower", "foreign_upper", "cyrillic", "greek",
    "other_letter", "digit", "other_digit", "space", "newline", "tab", "other_space", "invisible", "control", "replacement",
    "private", "combining", "symbol", "beyond_bmp", "other_punctuation",
)  # fmt: skip
MARKS = ".,;:!?-–—()[]{}<>/\\|_*#=+&%@$'\"~^`…•·„”“«»’©®™§°"  # characters that are a kind each
KIND = {name: number for number, name in enumerate((*NAMES, *MARKS))}
LAST_LETTER = KIND["other_letter"]
COUNT = len(KIND)
SIZE = 1 << 16  # code points in the tables; the last, never a character, stands for all beyond
PUNCTUATION = np.array([name in MARKS or name == "other_punctuation" for name in KIND])
VOWELS = frozenset("aeiouyąęóáéíúůýěàâäåæèêëîïòôöøœùûüőű")


def one_of(names: Iterable[str]) -> np.ndarray:
    """By kind: whether it is one of these, bool `[COUNT]`."""
    return np.isin(np.arange(COUNT), [KIND[name] for name in names])


@dataclass(frozen=True)
class Tables:
    """By code point: its kind, its lower case, whether it is a vowel, and whether it is a letter of the language."""

    kind: np.ndarray  # uint8 [SIZE]
    lower: np.ndarray  # uint32 [SIZE]
    vowel: np.ndarray  # bool [SIZE]
    alphabet: np.ndarray  # bool [SIZE]


def tables(language: LanguageConfig) -> Tables:
    """The tables of a language, about 0.5 MB; they take a tenth of a second."""
    kind, lower = np.zeros(SIZE, np.uint8), np.arange(SIZE, dtype=np.uint32)
    own = set(language.alphabet.lower())
    for number in range(SIZE - 1):
        character = chr(number)
        kind[number] = KIND[_kind(character, own)]
        small = character.lower()
        if len(small) == 1:
            lower[number] = ord(small)
    kind[SIZE - 1] = KIND["beyond_bmp"]
    vowel, alphabet = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    for character in VOWELS:
        vowel[ord(character)] = True
    for character in own:
        alphabet[ord(character)] = alphabet[ord(character.upper())] = True
    return Tables(kind, lower, vowel, alphabet)


def _kind(character: str, own: set[str]) -> str:
    if character in MARKS:
        return character
    if character.isascii() and character.isalpha():
        return "plain_lower" if character.islower() else "plain_upper"
    named = {" ": "space", "\n": "newline", "\t": "tab", "\ufffd": "replacement", "\u00ad": "invisible"}
    if character in named:
        return named[character]
    category = unicodedata.category(character)
    if category[0] == "L":
        return _letter(character, own)
    if category[0] == "N":
        return "digit" if character.isascii() else "other_digit"
    if category[0] == "Z":
        return "other_space"
    by_category = {"Cf": "invisible", "Cc": "control", "Co": "private", "Cn": "private", "Cs": "private"}
    return by_category.get(category) or {"M": "combining", "S": "symbol", "P": "other_punctuation"}[category[0]]


def _letter(character: str, own: set[str]) -> str:
    case = "upper" if character.isupper() else "lower"
    if character.lower() in own:
        return f"own_{case}"
    number = ord(character)
    if number < 0x250 or 0x1E00 <= number < 0x1F00:
        return f"foreign_{case}"
    if 0x370 <= number < 0x400 or 0x1F00 <= number < 0x2000:
        return "greek"
    return "cyrillic" if 0x400 <= number < 0x530 else "other_letter"
