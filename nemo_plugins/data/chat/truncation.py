"""Whether an answer was cut off: by what it leaves open, and by how it ends beside how it is written.

That a long line ends without a full stop says nothing by itself: a translation of a title, a list of categories and a line of a
poem do. It says something of an answer whose other sentences have one, and of a line that ends in a word which no sentence ends
in, in a bracket that is not closed, or in a loop.
"""

from __future__ import annotations

import re

LONG_LINE = 80  # characters of a last line that is looked at
NO_SENTENCE = re.compile(r"\s*([-*•|>#]|\d+[.)]\s|https?://)|.*\bhttps?://\S+$")  # lists, tables, quotes, headings, addresses
PAIRED = (("<tool_call>", "</tool_call>"), ("<think>", "</think>"))
GOES_ON = ",;(–-„"  # what something follows
# prepositions, conjunctions and relative pronouns of Polish, articles and conjunctions of English
NO_END = re.compile(
    r"""(?:^|[\s(„"])(?:aby|albo|ale|bez|choć|czyli|dla|do|gdy|gdyż|i|jako|jeśli|jeżeli|ku|lecz|lub|między|na|nad|niż|o|od|oraz|
    pod|ponieważ|przed|przez|przy|u|w|we|wśród|z|za|ze|że|żeby|któr(?:y|a|e|zy|ego|ej|ą|ym|ych|ymi)|
    an|the|and|or|but|of|because|if|than|which|whose|into|from|their|your)$|,\sa$""",
    re.VERBOSE | re.IGNORECASE,
)
ABBREVIATED = ("prof", "godz", "mies", "tzw", "nazw", "wyd", "ang", "łac", "niem")
# the end of a sentence that another follows: not of an abbreviation, an initial or an ordinal number
SENTENCE = re.compile(r"""(?:(?P<word>[^\W\d_]{3,})\.|[!?…])["”»)]*(?=\s+["„«(*]*[A-ZĄĆĘŁŃÓŚŹŻ]|\s*\n|\s*\Z)""")
ITEMS = 4  # of a list, at least, of `ITEM_WORDS` words on average at most
ITEM_WORDS, LONGEST_ITEM = 2.5, 4
ROUNDS, PHRASE = 4, 8  # a loop: a phrase of at most so many words so many times


def truncated(message: dict) -> str | None:
    """Why a response looks cut off, or None. A guess, but for `finish_reason`: short answers are never called cut."""
    text = message["content"].rstrip()
    if message.get("finish_reason") == "length":
        return "has finish_reason length"
    if text.count("```") % 2:
        return "leaves a code block open"
    for opened, closed in PAIRED:
        if text.count(opened) > text.count(closed):
            return f"leaves {opened} open"
    before, _, last = text.rpartition("\n")
    if text.endswith("```") or len(last) < LONG_LINE or NO_SENTENCE.match(last):
        return None
    shown = f"…{last[-30:]!r}"
    if _loops(last.split()):
        return f"repeats itself to its end: {shown}"
    if last[-1] in GOES_ON or NO_END.search(last):
        return f"ends within a sentence: {shown}"
    if not last[-1].isalpha():
        return None
    if _leaves_open(last):
        return f"ends within a bracket or a quotation: {shown}"
    inside = _ends(last)
    if (inside or len(_ends(before)) > 1) and not _is_list(last[inside[-1] if inside else 0 :]):
        return f"ends within a sentence: {shown}"
    return None


def _ends(text: str) -> list[int]:
    """Where sentences of a text end."""
    return [end.end() for end in SENTENCE.finditer(text) if (end["word"] or "").lower() not in ABBREVIATED]


def _is_list(rest: str) -> bool:
    """Whether what follows the last sentence names things rather than says something."""
    items = re.split(r"[,;/|]|\s[–-]\s|\s(?:i|oraz|and|lub|or)\s", rest.rpartition(":")[2])
    words = [len(item.split()) for item in items]
    return len(items) >= ITEMS and sum(words) / len(items) <= ITEM_WORDS and max(words) <= LONGEST_ITEM


def _leaves_open(line: str) -> bool:
    if any(line.count(opened) > line.count(closed) for opened, closed in ("()", "[]")):
        return True
    quoted = line.rpartition("„")
    return bool(quoted[1]) and not re.search(r"[”\"“«»'’]", quoted[2])


def _loops(words: list[str]) -> bool:
    return any(words and words[-size * ROUNDS :] == words[-size:] * ROUNDS for size in range(1, PHRASE + 1))
