"""Rows of chat data that hold an evaluation item: prompts leak most, so no set that is learned from may hold one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_plugins.configs.schema import DecontaminationConfig
from nemo_plugins.data.chat import rows
from nemo_plugins.data.chat.rows import Fault, Report
from nemo_plugins.runs import locks

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

    def guard(self, check: rows.Check, paths: Sequence[Path]) -> rows.Check:
        """The check of a row, which also refuses one that holds an item (kind `evaluation`).

        Args:
            paths: read once before, for the runs of words that too many rows hold to give an item away.
        """
        from nemo_plugins.data.corpus.contamination import Commons, Contamination, load_items  # numpy

        contamination = Contamination(load_items(self.files, self.asked.fields), self.asked.ngram)
        commons = Commons(contamination, self.asked.common)
        for text in rows.read(paths, lambda row, where, report: _text(row), Report(kept=1)):
            commons.add(text)
        common = commons.runs

        def guarded(row: dict, where: str, report: Report) -> Any:
            made = check(row, where, report)
            if (item := contamination.found(_text(row), common)) is not None:
                raise Fault("evaluation", f"holds an evaluation item: {item[:100]}")
            return made

        return guarded


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


def _text(row: dict) -> str:
    return "\n".join(text for name in LOOKED_AT for text in _strings(row.get(name)))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.encode("utf-8", "replace").decode()
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
