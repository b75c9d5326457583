"""Signals of a language's forms that need no dictionary: endings of words, digraphs, neighbours that agree.

A word's ending is the longest of `ENDINGS` that it ends in, and counts where the word is at least two letters longer. They are
frequent endings of open word classes, not a grammar: -ów is a noun's, mostly. A language without a list has zeros there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nemo_plugins.data.quality.page import Page, entropy, share

CLASSES = {
    "infinitive": "infinitives",
    "verb_present": "verbs of the present",
    "verb_past": "verbs of the past",
    "verb_address": "verbs that address the reader, imperatives and second persons",
    "participle": "participles and gerunds",
    "adjective": "adjectives and pronouns like them",
    "adverb": "adverbs",
    "noun_abstract": "abstract nouns",
    "noun_case": "nouns in an oblique case",
}
ENDINGS = {
    "pl": {
        "infinitive": "ać eć ić yć ąć uć ść źć",
        "verb_present": "uje ują ają eją ę emy imy ymy amy",
        "verb_past": "ał ała ało ali ały ił iła iło ili iły ył yła yło yli yły nął nęła",
        "verb_address": "asz esz isz ysz cie aj ij yj uj",
        "participle": "ący ąca ące ących ącego any ana ane anych ony ona one onych ano ono ięty",
        "adjective": "ego emu ych ich ymi imi ej owy owa owe ny na ne ski ska skie cki cka ckie",
        "adverb": "wie nie rze ale",
        "noun_abstract": "ość ości ością anie ania aniu enie enia eniu acja acji ację cja cji izm stwo stwa",
        "noun_case": "ów om ami ach ek ka ki ku em owi",
    }
}
DIGRAPHS = {"pl": "sz cz rz dz ch ni ie ow"}
LENGTH = 4  # letters that are looked at
LETTERS = 32  # of a language that endings are written in, at most 31
DOCUMENTATION = {
    **{name: f"share of words with an ending frequent in {what}" for name, what in CLASSES.items()},
    "endings_known": "share of words with any of these endings",
    "ending_entropy": "entropy of the last two letters of words of 4 letters or more, bits",
    "same_ending_pairs": "share of neighbouring words of 4 letters or more whose last two letters are the same",
    "same_class_pairs": "share of neighbouring words whose ending is of one class, among pairs with endings",
    "ends_in_vowel": "share of words of 3 letters or more that end in a vowel",
    "digraphs": "share of neighbouring letters that are a digraph or pair frequent in the language",
}


def measure(page: Page) -> dict[str, float]:
    """This family's features of a page."""
    tables, words = _tables(page.lexicon.code), page.words
    number = tables.number[page.lower]
    ending = np.zeros(len(words), np.int64)
    for back in range(LENGTH, 0, -1):  # the last `LENGTH` letters as one number, 0 before the word
        place = words.end - back
        ending = ending * LETTERS + np.where(place >= words.start, number[np.maximum(place, 0)], 0)
    group = np.where(words.length >= 3, tables.group[ending], 0)
    stem = words.length - tables.length[ending]
    group = np.where(stem >= 2, group, 0)
    counts = np.bincount(group, minlength=len(CLASSES) + 1).tolist()
    last_two, long = _last_two(page), words.length >= 4
    pairs = long[1:] & long[:-1]
    with_endings = (group[1:] > 0) & (group[:-1] > 0)
    at_least_3 = words.length >= 3
    vowel = page.lexicon.tables.vowel[page.lower[words.end - 1]]
    both = page.letter[1:] & page.letter[:-1]
    digraph = tables.digraph[number[:-1] * LETTERS + number[1:]] & both
    made = {name: share(counts[place], len(words)) for place, name in enumerate(CLASSES, 1)}
    made |= {
        "endings_known": share(len(words) - counts[0], len(words)),
        "ending_entropy": entropy(np.bincount(ending[long] % LETTERS**2)),
        "same_ending_pairs": share((pairs & (last_two[1:] == last_two[:-1])).sum(), pairs.sum()),
        "same_class_pairs": share((with_endings & (group[1:] == group[:-1])).sum(), with_endings.sum()),
        "ends_in_vowel": share((vowel & at_least_3).sum(), at_least_3.sum()),
        "digraphs": share(digraph.sum(), both.sum()),
    }
    return made


def _last_two(page: Page) -> np.ndarray:
    last = page.words.end - 1
    return page.lower[last].astype(np.int64) * 65536 + page.lower[np.maximum(last - 1, 0)]


class _Tables:
    """`number`: of each code point, 1 to 31 for the letters of endings. By the number of the last letters: class, length."""

    def __init__(self, code: str):
        endings, digraphs = ENDINGS.get(code, {}), DIGRAPHS.get(code, "").split()
        letters = sorted(set("".join([*endings.values(), *digraphs])) - {" "})
        self.number = np.zeros(65536, np.int64)
        for place, letter in enumerate(letters or "abcdefghijklmnopqrstuvwxyz", 1):
            self.number[ord(letter)] = place
        self.group, self.length = np.zeros(LETTERS**LENGTH, np.int8), np.zeros(LETTERS**LENGTH, np.int8)
        of_class = [(ending, place) for place, name in enumerate(CLASSES, 1) for ending in endings.get(name, "").split()]
        for ending, place in sorted(of_class, key=lambda pair: len(pair[0])):  # a longer ending takes the place of a shorter
            value = self.value(ending)
            every = slice(value, None, LETTERS ** len(ending))  # any letters before it
            self.group[every], self.length[every] = place, len(ending)
        self.digraph = np.zeros(LETTERS**2, bool)
        for pair in digraphs:
            self.digraph[self.value(pair)] = True

    def value(self, letters: str) -> int:
        total = 0
        for letter in letters:
            total = total * LETTERS + int(self.number[ord(letter)])
        return total


@lru_cache(maxsize=8)
def _tables(code: str) -> _Tables:
    return _Tables(code)
