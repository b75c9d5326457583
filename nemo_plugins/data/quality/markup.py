"""Links, markup and program text that should not be in prose."""

from __future__ import annotations

import re

import numpy as np

from nemo_plugins.data.quality.character_kinds import KIND, one_of
from nemo_plugins.data.quality.page import Pages, share

# every repetition is bounded, so that no text takes more than a few passes
URL = re.compile(r"(?:https?://|www\.)[^\s<>\"]{1,500}")
TAG = re.compile(r"<[a-zA-Z/!?][^<>\n]{0,300}>")
ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,6}|#x[0-9a-fA-F]{1,6});")
ESCAPE = re.compile(r"\\(?:[nrt\"/\\]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})")
CALL = re.compile(r"\w\([^()\n]{0,80}\)|\w\.\w{1,40}\(")
OPERATOR = re.compile(r"[=!<>+&|-]=|=>|->|&&|\|\||::|//")
WIKI = re.compile(r"\[\[|\]\]|\{\{|\}\}|={2,6}[^=\n]{1,80}={2,6}|'''?")
BRACKET_CODE = re.compile(r"\[/?[a-zA-Z]{1,10}(?:=[^\[\]\n]{0,200})?\]")
DOCUMENTATION = {
    "urls": "web addresses per word",
    "characters_in_urls": "share of characters in web addresses",
    "tags": "HTML or XML tags per word",
    "characters_in_tags": "share of characters in HTML or XML tags",
    "entities": "HTML entities per word",
    "escapes": "backslash escapes (\\n, \\u0105) per word",
    "wiki_marks": "marks of wiki text ([[ {{ == ''') per word",
    "bracket_codes": "BBCode tags ([b], [url=…]) per word",
    "calls": "names with round brackets directly behind them per word",
    "code_operators": "operators of programming languages (== => && :: …) per word",
    "snake_case": "underscores between letters or digits per word",
    "lines_end_code": "share of lines that end in ; { } or >",
    "assignments": "= directly before or behind a quotation mark, digit or letter, per word",
}


def measure(pages: Pages) -> dict[str, np.ndarray]:
    """This family's features of each text, `[texts]`."""
    words, texts = np.maximum(1, pages.words.count), pages.texts

    def found(pattern: re.Pattern, marks: str) -> np.ndarray:
        which = np.flatnonzero(pages.counts[:, [KIND[mark] for mark in marks]].sum(axis=1))
        made = np.zeros(len(pages))
        made[which] = [len(pattern.findall(texts[number])) for number in which]
        return made / words

    urls = [[len(url) for url in URL.findall(text)] if "://" in text or "www." in text else [] for text in texts]
    tags = [[len(tag) for tag in TAG.findall(text)] if "<" in text and ">" in text else [] for text in texts]
    kind, lines = pages.kind, pages.lines
    wordlike = pages.letter | (kind == KIND["digit"])
    underscore, equals = kind == KIND["_"], kind == KIND["="]
    quoted = wordlike | one_of("\"'")[kind]
    code_ends = one_of(";{}>")[kind[lines.end - 1]]
    touching = (equals[:-1] & quoted[1:]) | (equals[1:] & quoted[:-1])
    return {
        "urls": np.array([len(lengths) for lengths in urls]) / words,
        "characters_in_urls": share([sum(lengths) for lengths in urls], pages.length),
        "tags": np.array([len(lengths) for lengths in tags]) / words,
        "characters_in_tags": share([sum(lengths) for lengths in tags], pages.length),
        "entities": found(ENTITY, "&"),
        "escapes": found(ESCAPE, "\\"),
        "wiki_marks": found(WIKI, "[{='"),
        "bracket_codes": found(BRACKET_CODE, "["),
        "calls": found(CALL, "("),
        "code_operators": found(OPERATOR, "=>&|:/"),
        "snake_case": pages.triples(underscore[1:-1] & wordlike[:-2] & wordlike[2:]) / words,
        "lines_end_code": share(lines.sum(code_ends), lines.count),
        "assignments": pages.pairs(touching) / words,
    }
