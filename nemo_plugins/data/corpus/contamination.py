"""Documents that hold an evaluation item: a model that has read the question cannot be measured by it.

An item is found by any run of 13 of its words (the size that GPT-3's report chose, arXiv 2005.14165, appendix C), or, where it
is shorter, by all its words in a row. A run that more than a few documents hold (statutes, licences) gives nothing away, unless
a document holds the whole item: GPT-3's report ignores runs that more than 10 documents hold. Case, punctuation, whitespace and
quotes do not matter (nemo_plugins.data.corpus.words).
An item of fewer than 4 words and fewer than 20 characters ("Tak.") is in every corpus: it is not looked for, and listed.
A paraphrase or a translation of an item is not found.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nemo_plugins.data import lines
from nemo_plugins.data.corpus.words import extend, word_hashes, words
from nemo_plugins.runs.errors import UserError

SHORTEST_WORDS, SHORTEST_CHARACTERS = 4, 20
COMMON = 10  # documents (GPT-3)
LONG = 13  # words of a text that gives itself away whatever its field
# Words of the names of fields that hold what an item asks and what it asks about: question, flores_passage, sentence_A, …
FIELDS = frozenset(
    "question query prompt problem instruction input goal premise hypothesis sentence text passage context ctx paragraph "
    "article story document content body extract summary pytanie tekst kontekst treść fragment zdanie".split()
)
NO_FIELDS = frozenset("id url link source type lang language label answer".split())


class Contamination:
    """Looks for items in documents.

    Args:
        items: texts of the evaluation items, as the suites have them.
        ngram: words in a row that give an item away.
    Raises: UserError where `ngram` is below 2.

    `unchecked` lists the items that are too short to look for. Picklable; 12 bytes and a table of 16 to 32 bytes per run of
    words of the items.
    """

    def __init__(self, items: Iterable[str], ngram: int = 13):
        if ngram < 2:
            raise UserError(f"contamination: ngram={ngram}", "expected: 2 words or more", "13 is usual")
        self.items = list(dict.fromkeys(items))
        self.ngram = ngram
        self.unchecked: list[str] = []
        runs: dict[int, list[np.ndarray]] = {}
        owners: dict[int, list[np.ndarray]] = {}
        for owner, item in enumerate(self.items):
            tokens = words(item)
            if len(tokens) < SHORTEST_WORDS and len(" ".join(tokens)) < SHORTEST_CHARACTERS:
                self.unchecked.append(item)
                continue
            length = min(ngram, len(tokens))
            hashes = dict(_runs(word_hashes(tokens), {length}))[length]
            runs.setdefault(length, []).append(hashes)
            owners.setdefault(length, []).append(np.full(len(hashes), owner, dtype=np.uint32))
        self._tables = {length: _Table(np.concatenate(runs[length]), np.concatenate(owners[length])) for length in runs}

    def found(self, text: str, common: Collection[str] = ()) -> str | None:
        """The item that a document holds, None where it holds none; of several the one that was given first.

        Args:
            common: runs that give nothing away (`Commons`).
        """
        whole, runs = self.overlap(text)
        found = whole | {owner for run, owner in runs.items() if run not in common}
        return self.items[min(found)] if found else None

    def overlap(self, text: str) -> tuple[set[int], dict[str, int]]:
        """The items that a document holds whole, and the runs of the others that it holds, with the first item of each."""
        tokens = words(text)
        joined, whole, runs, seen = f" {' '.join(tokens)} ", set(), {}, {}
        for length, hashes in _runs(word_hashes(tokens), self._tables.keys()):
            for place, owner in self._tables[length].lookup(hashes):
                run = tokens[place : place + length]
                if not self._holds(owner, run):
                    continue
                if owner not in seen:
                    seen[owner] = f" {' '.join(words(self.items[owner]))} " in joined
                if seen[owner]:
                    whole.add(owner)
                else:
                    runs[" ".join(run)] = owner
        return whole, runs

    def _holds(self, owner: int, run: list[str]) -> bool:
        """Whether the words themselves are the item's: of 64-bit hashes two may meet by chance."""
        return f" {' '.join(run)} " in f" {' '.join(words(self.items[owner]))} "


class Commons:
    """Counts the documents that each run is in, of those that hold no item whole: what more than `most` hold is boilerplate."""

    def __init__(self, contamination: Contamination, most: int = COMMON):
        self.contamination, self.most = contamination, most
        self.documents: Counter[str] = Counter()

    def add(self, text: str) -> None:
        whole, runs = self.contamination.overlap(text)
        if not whole:
            self.documents.update(runs.keys())

    @property
    def runs(self) -> frozenset[str]:
        return frozenset(run for run, count in self.documents.items() if count > self.most)


class _Table:
    """Hashes of the items' runs of one length: which item has it, the first where several do."""

    def __init__(self, hashes: np.ndarray, owners: np.ndarray):
        self.hashes, first = np.unique(hashes, return_index=True)
        self.owners = owners[first]
        bits = max(16, int(len(self.hashes) * 16 - 1).bit_length())
        self.shift = np.uint64(64 - bits)
        self.seen = np.zeros(1 << bits, dtype=bool)  # answers 15 of 16 strangers with one read instead of a binary search
        self.seen[self.hashes >> self.shift] = True

    def lookup(self, hashes: np.ndarray) -> Iterator[tuple[int, int]]:
        """(place, item) of every hash that an item has."""
        for place in np.flatnonzero(self.seen[hashes >> self.shift]):
            at = int(np.searchsorted(self.hashes, hashes[place]))
            if at < len(self.hashes) and self.hashes[at] == hashes[place]:
                yield int(place), int(self.owners[at])


def _runs(hashes: np.ndarray, lengths: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(length, hash of every run of so many words) for each of the lengths that the text has, shortest first."""
    wanted, runs = set(lengths), hashes
    for length in range(1, min(max(wanted, default=0), len(hashes)) + 1):
        if length > 1:
            runs = extend(runs, hashes, length)
        if length in wanted:
            yield length, runs


def load_items(paths: Iterable[str | Path], fields: Sequence[str] = ()) -> list[str]:
    """Evaluation items from JSONL files, plain, gzip or zstd, one object or string a line.

    Args:
        fields: names of the fields to take. Without them: those that by their names ask or are asked about (`FIELDS`),
            and every text of 13 words or more; where there are none, every string of the object.
    Raises: UserError with file and line where a file is missing, a line is no JSON or no text is in it.
    """
    items = []
    for path in map(Path, paths):
        if not path.is_file():
            raise UserError(f"{path}: no such file", "expected: a JSONL file of evaluation items", "check the path")
        try:
            with lines.opened(path) as file:
                for line in lines.read(file):
                    items += _texts(line.whole.decode("utf-8"), f"{path}:{line.number}", fields)
        except (UnicodeDecodeError,) + lines.damages(path) as error:
            raise UserError(f"{path}: not readable: {error}", "expected: JSONL in UTF-8", "export it again") from error
    return items


def _texts(line: str, where: str, fields: Sequence[str]) -> list[str]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: no JSON: {error}", "expected: one object a line", "correct or remove the line") from error
    if fields and isinstance(record, dict):
        chosen: Any = [record.get(name) for name in fields]
    elif isinstance(record, dict):
        chosen = list(_telling(record)) or record
    else:
        chosen = [] if fields else record
    # half a UTF-16 pair, which no tally can save, is "?" and no word
    texts = [text.encode("utf-8", "replace").decode() for text in lines.strings(chosen) if text.strip()]
    if not texts:
        names = f" in {', '.join(fields)}" if fields else ""
        raise UserError(f"{where}: no text{names}: {line.strip()[:100]}", "expected: a string", "name the fields that hold it")
    return texts


def _telling(value, named: bool = False) -> Iterator[str]:
    """Of an item what it asks, what it asks about, and every long text."""
    if isinstance(value, dict):
        for name, part in value.items():
            parts = set(re.findall(r"[^\W\d_]+", str(name).casefold()))
            yield from _telling(part, named or bool(parts & FIELDS and not parts & NO_FIELDS))
    elif isinstance(value, list):
        for part in value:
            yield from _telling(part, named)
    elif isinstance(value, str) and (named or len(words(value)) >= LONG):
        yield value
