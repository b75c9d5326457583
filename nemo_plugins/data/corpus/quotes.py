"""Opening quotation marks as typists write them: two commas are one where a quotation opens, and two commas elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping

OPENING = tuple("„‚«‹“‘")  # what a rule puts in place of typists' marks
BEFORE = "([{<„«»“\"'–—/"  # what else than white space may stand before a quotation
CLOSING = re.compile(r"”|“|\"|''|’’|‘‘|\n\n")


def opened(text: str, marks: Mapping[str, str]) -> str:
    """The text with typists' opening marks replaced: those at a word's beginning that a closing mark follows in the paragraph.

    Args:
        marks: what typists write, and the mark it stands for.
    """
    if not any(mark in text for mark in marks):
        return text
    listed = "|".join(map(re.escape, sorted(marks, key=len, reverse=True)))
    found = re.compile(rf"(?P<typed>{listed})|(?P<open>„)|(?P<close>{CLOSING.pattern})")
    waiting: list[re.Match[str] | None] = []  # quotations that are open; None: those that need no repair
    repaired: list[re.Match[str]] = []
    for match in found.finditer(text):
        before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        begins = not before or before.isspace() or before in BEFORE
        if match[0] == "\n\n":
            waiting.clear()
        elif match["typed"]:
            if begins and (after.isalnum() or after in "…([" and after):
                waiting.append(match)
        elif match["open"] or (match[0] == '"' and (after.isalnum() or (begins and after.strip()))):
            waiting.append(None)
        elif waiting and before.strip() and (one := waiting.pop()):
            repaired.append(one)
    parts: list[str] = []
    end = 0
    for match in sorted(repaired, key=lambda match: match.start()):
        parts += text[end : match.start()], marks[match["typed"]]
        end = match.end()
    return "".join((*parts, text[end:]))
