"""Rows of chat data that hold an evaluation item: prompts leak most, so no set that is learned from may hold one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_plugins.configs.schema import DecontaminationConfig
from nemo_plugins.data import lines
from nemo_plugins.data.chat import rows
from nemo_plugins.data.chat.rows import Fault, Report
from nemo_plugins.runs import locks

if TYPE_CHECKING:
    from nemo_plugins.data.corpus.contamination import Contamination

LOOKED_AT = ("messages", "prompt", "chosen", "rejected", "reference")


@dataclass(frozen=True)
class EvaluationItems:
    """The evaluation sets of `corpus.decontamination`, as files of this machine."""

    files: tuple[Path, ...]
    asked: DecontaminationConfig

    @property
    def key(self) -> str:
        """Changes with the items and with how they are looked for."""
        content = hashlib.sha256(f"{self.asked.fields} {self.asked.ngram} {self.asked.common}".encode())
        for file in self.files:
            content.update(file.read_bytes())
        return content.hexdigest()[:16]

    def counted(self, pieces: Iterable[rows.Piece]) -> Counter[str]:
        """How many rows hold each run of words of an item that they do not hold whole."""
        from nemo_plugins.data.corpus.contamination import Commons  # numpy

        commons, every = Commons(self._contamination, self.asked.common), Report(kept=1)
        for piece in pieces:
            for one in rows.read_piece(piece, lambda row, where, report: text(row), every):
                commons.add(one)
        return commons.documents

    def guard(self, check: rows.Check, counts: Mapping[str, int]) -> rows.Check:
        """The check of a row, which also refuses one that holds an item (kind `evaluation`).

        Args:
            counts: of all rows of the set (`counted`): runs of words that too many of them hold give no item away.
        """
        common = frozenset(run for run, count in counts.items() if count > self.asked.common)
        contamination = self._contamination

        def guarded(row: dict, where: str, report: Report) -> Any:
            made = check(row, where, report)
            if (item := contamination.found(text(row), common)) is not None:
                raise Fault("evaluation", f"holds an evaluation item: {item[:100]}")
            return made

        return guarded

    @cached_property
    def _contamination(self) -> Contamination:
        from nemo_plugins.data.corpus.contamination import Contamination, load_items

        return Contamination(load_items(self.files, self.asked.fields), self.asked.ngram)


def of(asked: DecontaminationConfig, folder: Path) -> EvaluationItems | None:
    """The items that a configuration names, None where it names none; sets of the hub are fetched into `folder`.

    Raises:
        UserError: there are none where it says.
    """
    if not asked.items:
        return None
    from nemo_plugins.data.corpus import sources

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:  # of the processes of one run
        locks.take(lock)
        for number, item in enumerate(asked.items):
            sources.save_items(item, folder / "items", number, folder / "fetched")
    return EvaluationItems(tuple(sorted((folder / "items").glob("*.jsonl*"))), asked)


def text(row: dict) -> str:
    """The words of a row that are looked at."""
    parts = (part for name in LOOKED_AT for part in lines.strings(row.get(name)))
    return "\n".join(parts).encode("utf-8", "replace").decode()
