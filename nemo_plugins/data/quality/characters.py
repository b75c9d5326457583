"""What characters the text is made of."""

from __future__ import annotations

import numpy as np

from nemo_plugins.data.quality.character_kinds import KIND, SIZE
from nemo_plugins.data.quality.page import Pages, share

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


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    characters, letters, words = pages.length, pages.letters, pages.words
    own = (pages.kind == KIND["own_lower"]) | (pages.kind == KIND["own_upper"])
    plain, own_count = pages.count("plain_lower", "plain_upper"), pages.count("own_lower", "own_upper")
    in_alphabet = pages.sum(pages.lexicon.tables.alphabet[pages.code])
    vowel = pages.lexicon.tables.vowel[pages.lower]
    both = pages.letter[:-1] & pages.letter[1:]
    spaces = pages.kind == KIND["space"]
    return {
        "letters": share(letters, characters),
        "own_letters": share(own_count, letters),
        "alphabet_letters": share(in_alphabet, letters),
        "ascii_strangers": share(plain - (in_alphabet - own_count), letters),
        "foreign_latin": share(pages.count("foreign_lower", "foreign_upper"), letters),
        "cyrillic": share(pages.count("cyrillic"), letters),
        "other_letters": share(pages.count("other_letter", "greek"), letters),
        "words_with_own_letters": share(words.sum(_holding(own, pages)), words.count),
        "own_letter_kinds": _own_kinds(own, pages),
        "vowels": share(pages.sum(vowel), letters),
        "vowel_changes": share(pages.pairs(both & (vowel[:-1] != vowel[1:])), pages.pairs(both)),
        "consonant_runs": share(pages.in_runs(pages.letter & ~vowel, 5), letters),
        "white_space": share(pages.sum(pages.space), characters),
        "spaces_doubled": share(pages.pairs(spaces[:-1] & spaces[1:]), pages.count("space")),
        "other_spaces": share(pages.count("other_space"), characters),
        "invisible": share(pages.count("invisible"), characters),
        "controls": share(pages.count("control"), characters),
        "broken": share(pages.count("replacement", "private"), characters),
        "beyond_bmp": share(pages.count("beyond_bmp"), characters),
        "mojibake": share(_mojibake(pages), characters),
        "character_kinds": share(_kinds(pages), np.sqrt(characters)),
    }


def _holding(marked: np.ndarray, pages: Pages) -> np.ndarray:
    """Whether a marked character lies in each word."""
    places = np.flatnonzero(marked)
    return np.searchsorted(places, pages.words.end) > np.searchsorted(places, pages.words.start)


def _own_kinds(own: np.ndarray, pages: Pages) -> np.ndarray:
    letters, places = pages.lexicon.own_letters, np.flatnonzero(own)
    if not len(letters):
        return np.zeros(len(pages))
    found = np.zeros((len(pages), len(letters)), bool)
    found[pages.owner[places], np.searchsorted(letters, pages.lower[places])] = True
    return found.sum(axis=1) / len(letters)


def _mojibake(pages: Pages) -> np.ndarray:
    lead = (pages.code >= 0xC2) & (pages.code <= 0xC5)
    plain = (pages.kind == KIND["plain_lower"]) | (pages.kind == KIND["plain_upper"])
    return pages.pairs(lead[:-1] & ~plain[1:])


def _kinds(pages: Pages) -> np.ndarray:
    """Distinct characters of each text."""
    seen = np.zeros(SIZE, bool)
    seen[pages.code] = True
    present = np.flatnonzero(seen)  # a hundred or so of 65,536
    rank = np.zeros(SIZE, np.int64)
    rank[present] = np.arange(len(present))
    return np.count_nonzero(pages.histogram(rank[pages.code], len(present)), axis=1)
