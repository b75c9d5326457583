"""Evaluation items in training text: a document that holds one would make a score mean memory.

As in the reports of large models (GPT-3's appendix C, arXiv 2005.14165): 13 words in a row in common; here also the whole of an
item that is shorter, down to `SHORTEST` words, below which everyday language would be full of items.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from nemo_plugins.data.corpus.words import words
from nemo_plugins.runs.errors import UserError

SHORTEST = 4  # words


class Contamination:
    """Looks for evaluation items in documents; case, punctuation and spacing do not matter.

    Attributes:
        uncheckable: items of fewer than `SHORTEST` words, which are not looked for.
    """

    def __init__(self, items: Iterable[str], ngram: int = 13):
        self.uncheckable: list[str] = []
        self._runs: dict[tuple[str, str], dict[tuple[str, ...], str]] = {}  # by their first two words
        for item in items:
            found = tuple(words(item))
            if len(found) < SHORTEST:
                self.uncheckable.append(item)
            for start in range(max(1, len(found) - ngram + 1) if len(found) >= SHORTEST else 0):
                run = found[start : start + ngram]
                self._runs.setdefault(run[:2], {}).setdefault(run, item)

    def found(self, text: str) -> str | None:
        """The first item that the text holds, None if it holds none. Takes time in proportion to the text."""
        document = words(text)
        for place, pair in enumerate(zip(document, document[1:], strict=False)):
            for run, item in self._runs.get(pair, {}).items():
                if tuple(document[place : place + len(run)]) == run:
                    return item
        return None


def items(path: str | Path) -> Iterator[str]:
    """Every text of an evaluation set in JSONL (or `.jsonl.gz`), however it names and nests them.

    Raises:
        UserError: the file is not there, or a line is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no file {path}: expected evaluation items, one JSON object a line")
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    yield from _texts(json.loads(line))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number}: {error}", "expected one JSON object a line") from None


def _texts(value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
