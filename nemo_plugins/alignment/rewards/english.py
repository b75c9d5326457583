"""How English chooses an option: for prompts in English, whatever the run's language is."""

from __future__ import annotations

import re

WORDS = {
    "right": r"(?:correct|right|best|final)",
    "option": r"(?:answer|option|choice)",
    "is": r"(?:is|would\s+be|must\s+be|will\s+be)",
}
PHRASES = [
    r"(?i:\b{right}\s+{option}(?:\s+{is})?\s{0,3}[:–-]?\s{0,3}(?:{option}\s+)?){letter}",
    r"(?i:\b{option}(?:\s+{is}\s{0,3}:?|\s{0,3}[:–-])\s{0,3}(?:{option}\s+)?){letter}",
    r"(?i:\b(?:choose|select|pick|go\s+with)\s+(?:{option}\s+)?){letter}",
    r"(?<!\w)(?:(?i:{option})\s+)?{letter}\)?\s+(?i:is\s+(?:the\s+)?{right})",
]
MENTIONS = [r"(?i:\b{option}\s+){letter}"]
HEDGES = [r"(?i:\b(?:maybe|perhaps|probably|might|could)\b)", r"(?i:\bnot\s+sure\b|\bdo(?:n't|\s+not)\s+know\b)"]
DENIALS = [r"(?i:(?:is|does|can)(?:n't|\s+not|not)\b)", r"(?i:is\s+(?:wrong|incorrect|false)\b)"]
DENIALS_BEFORE = [r"(?i:\b(?:not|wrong|incorrect|false|exclude|reject)\s+(?:the\s+)?$)"]

_WORDS = re.compile(r"(?<!\w)(?i:the|what|which|who|how|of|is|are|and|with|answer|choose|following)(?!\w)")
LONGEST = 2000


def reads(text: str) -> bool:
    """Whether the text is English: at least two of its commonest words."""
    text = text[-LONGEST:]
    words = {word.lower() for word in _WORDS.findall(text)}
    return len(words) >= 2
