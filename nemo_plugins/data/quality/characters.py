"""What characters the text is made of."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.kinds import KIND
from nemo_plugins.data.quality.page import Page, count, edges, share

DOCUMENTATION = {
    "letters": "share of characters that are letters",
    "own_letters": "share of letters that are in the language's alphabet and not in ASCII (Polish: ąćęłńóśźż)",
    "alphabet_letters": "share of letters that are in the language's alphabet",
    "ascii_strangers": "share of letters of ASCII that are not in the language's alphabet (Polish: q, v, x)",
    "foreign_latin": "share of letters of Latin outside ASCII and the language's alphabet",
    "cyrillic": "share of letters that are Cyrillic",
    "other_letters": "share of letters of all other scripts, Greek too",
    "words_with_own_letters": "share of words with a letter of the language that is not in ASCII",
    "own_letter_kinds": "share of the language's letters outside ASCII that occur at all",
    "vowels": "share of letters that are vowels",
    "vowel_changes": "share of neighbouring letters of which one is a vowel and one is not",
    "consonant_runs": "share of letters in runs of 5 consonants or more",
    "white_space": "share of characters that are white space",
    "spaces_doubled": "share of spaces that follow a space",
    "other_spaces": "share of characters that are no-break and other typographic spaces",
    "invisible": "share of characters that are invisible (zero width, soft hyphen)",
    "controls": "share of characters that are control characters, tabs and newlines apart",
    "broken": "share of characters that are U+FFFD, private, unassigned or lone surrogates",
    "beyond_bmp": "share of characters beyond the first 65,536 code points, emoji for the most part",
    "mojibake": "share of characters that are Ã, Å, Ä or Â before something not a letter of ASCII: UTF-8 read as Latin-1",
    "character_kinds": "distinct characters of the sample over the square root of its length",
}


def measure(page: Page) -> dict[str, float]:
    """This family's features of a page."""
    characters, letters = len(page.kind), page.letters
    own = (page.kind == KIND["own_lower"]) | (page.kind == KIND["own_upper"])
    plain = page.count("plain_lower", "plain_upper")
    in_alphabet = int(page.lexicon.tables.alphabet[page.code].sum())
    own_count = int(own.sum())
    histogram = np.bincount(page.lower, minlength=page.lexicon.own_letters.max(initial=0) + 1)
    own_kinds = page.lexicon.own_letters
    vowel = page.lexicon.tables.vowel[page.lower]
    both = page.letter[:-1] & page.letter[1:]
    return {
        "letters": share(letters, characters),
        "own_letters": share(own_count, letters),
        "alphabet_letters": share(in_alphabet, letters),
        "ascii_strangers": share(plain - (in_alphabet - own_count), letters),
        "foreign_latin": share(page.count("foreign_lower", "foreign_upper"), letters),
        "cyrillic": share(page.count("cyrillic"), letters),
        "other_letters": share(page.count("other_letter", "greek"), letters),
        "words_with_own_letters": share(_words_with(own, page), len(page.words)),
        "own_letter_kinds": share(count(histogram[own_kinds]), len(own_kinds)),
        "vowels": share(vowel.sum(), letters),
        "vowel_changes": share((both & (vowel[:-1] != vowel[1:])).sum(), both.sum()),
        "consonant_runs": share(_in_long_runs(page.letter & ~vowel, 5), letters),
        "white_space": share(page.space.sum(), characters),
        "spaces_doubled": share(_doubled(page.kind == KIND["space"]), page.count("space")),
        "other_spaces": share(page.count("other_space"), characters),
        "invisible": share(page.count("invisible"), characters),
        "controls": share(page.count("control"), characters),
        "broken": share(page.count("replacement", "private"), characters),
        "beyond_bmp": share(page.count("beyond_bmp"), characters),
        "mojibake": share(_mojibake(page), characters),
        "character_kinds": share(count(np.bincount(page.code)), characters**0.5),
    }


def _words_with(marked: np.ndarray, page: Page) -> int:
    """Words in which a marked character lies."""
    before = np.searchsorted(np.flatnonzero(marked), np.concatenate([page.words.start, page.words.end]))
    return count(before[len(page.words) :] > before[: len(page.words)])


def _in_long_runs(inside: np.ndarray, least: int) -> int:
    """Characters in runs of `least` or more."""
    start, end = edges(inside)
    lengths = end - start
    return int(lengths[lengths >= least].sum())


def _doubled(marked: np.ndarray) -> int:
    return count(marked[:-1] & marked[1:])


def _mojibake(page: Page) -> int:
    if not page.count("foreign_upper"):
        return 0
    lead = (page.code == 0xC2) | (page.code == 0xC3) | (page.code == 0xC4) | (page.code == 0xC5)
    plain = (page.kind == KIND["plain_lower"]) | (page.kind == KIND["plain_upper"])
    return count(lead[:-1] & ~plain[1:])
