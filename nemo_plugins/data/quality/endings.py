"""Signals of a language's forms that need no dictionary: endings of words, digraphs, neighbours that agree.

A word's ending is the longest of `ENDINGS` that it ends in, and counts where the word is at least two letters longer. They are
frequent endings of open word classes, not a grammar: -ów is a noun's, mostly. A language without a list has zeros there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nemo_plugins.data.quality.page import Pages, entropy, share

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


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    tables, words, texts = _tables(pages.lexicon.code), pages.words, len(pages)
    number = tables.number[pages.lower]
    ending = np.zeros(len(words), np.int64)
    for back in range(LENGTH, 0, -1):  # the last `LENGTH` letters as one number, 0 before the word
        place = words.end - back
        ending = ending * LETTERS + np.where(place >= words.start, number[np.maximum(place, 0)], 0)
    group = np.where((words.length >= 3) & (words.length - tables.length[ending] >= 2), tables.group[ending], 0)
    classes = len(CLASSES) + 1
    counts = np.bincount(words.owner * classes + group, minlength=texts * classes).reshape(texts, classes)
    last_two, long, together = _last_two(pages), words.length >= 4, words.follows()
    pairs, with_endings = together.copy(), together.copy()
    pairs[1:] &= long[1:] & long[:-1]
    with_endings[1:] &= (group[1:] > 0) & (group[:-1] > 0)
    same_ending, same_class = pairs.copy(), with_endings.copy()
    same_ending[1:] &= last_two[1:] == last_two[:-1]
    same_class[1:] &= group[1:] == group[:-1]
    at_least_3 = words.length >= 3
    vowel = pages.lexicon.tables.vowel[pages.lower[words.end - 1]]
    both = pages.letter[1:] & pages.letter[:-1]
    digraph = tables.digraph[number[:-1] * LETTERS + number[1:]] & both
    final = np.bincount(words.owner[long] * LETTERS**2 + ending[long] % LETTERS**2, minlength=texts * LETTERS**2)
    shares = {name: share(counts[:, place], words.count) for place, name in enumerate(CLASSES, 1)}
    shares |= {
        "endings_known": share(words.count - counts[:, 0], words.count),
        "ending_entropy": entropy(final.reshape(texts, LETTERS**2)),
        "same_ending_pairs": share(words.sum(same_ending), words.sum(pairs)),
        "same_class_pairs": share(words.sum(same_class), words.sum(with_endings)),
        "ends_in_vowel": share(words.sum(vowel & at_least_3), words.sum(at_least_3)),
        "digraphs": share(pages.pairs(digraph), pages.pairs(both)),
    }
    return shares


def _last_two(pages: Pages) -> np.ndarray:
    last = pages.words.end - 1
    return pages.lower[last].astype(np.int64) * 65536 + pages.lower[np.maximum(last - 1, 0)]


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
