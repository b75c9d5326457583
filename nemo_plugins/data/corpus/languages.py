"""Is a text in the language that is wanted?"""

from __future__ import annotations

import numpy as np

from nemo_plugins.configs.schema import LanguageConfig
from nemo_plugins.data.corpus.words import words

PIECE = 700  # characters of the beginning, the middle and the end that are looked at
LETTERS, STOP_WORDS = 0.9, 0.05  # of a language that py3langid has no model of: share of its alphabet, of its stop words


class LanguageFilter:
    """Tells the language of texts: py3langid where it knows the language (97 do), else its alphabet and stop words.

    py3langid reads the beginning, the middle and the end of a text and is sure of nearly all that are longer than a line.
    """

    def __init__(self, language: LanguageConfig):
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self.code = language.code
        self.identifier = LanguageIdentifier.from_pickled_model(MODEL_FILE)  # a file of the package itself
        classes = list(self.identifier.nb_classes)
        self.place = classes.index(self.code) if self.code in classes else None
        self.alphabet, self.stop_words = set(language.alphabet.lower()), set(language.stop_words)

    def look(self, text: str) -> tuple[float, str]:
        """(probability that it is the language, the language that is likelier than all others, as ISO 639-1)."""
        looked = sample(text)
        if sum(map(str.isupper, looked)) > sum(map(str.islower, looked)):
            looked = looked.lower()  # to py3langid capitals are other letters
        if self.place is None:
            return self._by_words(looked)
        counts = self.identifier.instance2fv(looked)
        present = np.flatnonzero(counts)  # few of 7,480 features: the package's own product over all takes four times as long
        scores = counts[present].astype(float) @ self.identifier.nb_ptc[present] + self.identifier.nb_pc
        chances = np.exp(scores - scores.max())
        best = self.identifier.nb_classes[int(chances.argmax())]
        return float(chances[self.place] / chances.sum()), str(best)

    def _by_words(self, text: str) -> tuple[float, str]:
        letters = [letter for letter in text.lower() if letter.isalpha()]
        found = words(text)
        is_own = (
            bool(letters)
            and sum(letter in self.alphabet for letter in letters) >= LETTERS * len(letters)
            and sum(word in self.stop_words for word in found) >= STOP_WORDS * len(found)
        )
        return float(is_own), self.code if is_own else "other"


def sample(text: str) -> str:
    """The text, or its beginning, middle and end."""
    if len(text) <= 3 * PIECE:
        return text
    middle = (len(text) - PIECE) // 2
    return f"{text[:PIECE]} {text[middle : middle + PIECE]} {text[-PIECE:]}"
