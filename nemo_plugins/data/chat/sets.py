"""Chat files to encoded samples: checked, cut to what fits, made once and reused while files and tokenizer stay the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from nemo_plugins.data.chat import encode, messages, preferences, rows, store
from nemo_plugins.data.chat.evaluation_items import EvaluationItems
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.runs import locks
from nemo_plugins.runs.fingerprint import fingerprint

FORMAT = 3  # raise when checks or encoding change: older folders are then made again


def dialogues(
    paths: list[Path],
    template: ChatTemplate,
    cache: Path,
    *,
    key: str,
    policy: str,
    seq_length: int,
    learn: str,
    items: EvaluationItems | None = None,
) -> store.Samples:
    """Samples of dialogues that fit `seq_length` places.

    Args:
        cache: folder for what was made; key: of the configuration, for messages.
        policy: "drop" or "error", for rows that cannot be used; learn: as of `encode.encode`.
        items: of evaluation, which no sample may hold.

    Raises:
        UserError: as `rows.read`.
    """

    checked = template.text.guarded(_check(messages.check, items, paths))

    def fitting(report: rows.Report) -> Iterator[encode.Sample]:
        for sample in encode.encode(rows.read(paths, checked, report), template, learn):
            if sample.positions > seq_length:
                report.late(sample.where, rows.Fault("too_long", f"{sample.positions} tokens, a window holds {seq_length}"))
            elif not sample.learned.any():
                report.late(sample.where, rows.Fault("nothing_learned", "no token of an assistant"))
            else:
                yield sample

    return _stored(
        paths, template, cache, f"chat {learn} {seq_length} {policy}{_key(items)}", rows.Report(key, policy), fitting
    )


def pairs(
    paths: list[Path],
    template: ChatTemplate,
    cache: Path,
    *,
    key: str,
    policy: str,
    seq_length: int,
    items: EvaluationItems | None = None,
) -> store.Samples:
    """Samples of preference pairs, chosen and rejected in turn. Arguments and errors as of `dialogues`."""

    checked = template.text.guarded(_check(preferences.check, items, paths))

    def fitting(report: rows.Report) -> Iterable[encode.Sample]:
        return preferences.encode(rows.read(paths, checked, report), template, seq_length, report)

    return _stored(paths, template, cache, f"pairs {seq_length} {policy}{_key(items)}", rows.Report(key, policy), fitting)


def _check(check: rows.Check, items: EvaluationItems | None, paths: list[Path]) -> rows.Check:
    return items.guard(check, paths) if items else check


def _key(items: EvaluationItems | None) -> str:
    return f" {items.key}" if items else ""


def _stored(
    paths: list[Path], template: ChatTemplate, cache: Path, what: str, report: rows.Report, make: Callable
) -> store.Samples:
    """Made under a lock, one process at a time; a folder that is there is whole."""
    content = " ".join([str(FORMAT), what, template.fingerprint, *map(fingerprint, paths)])
    folder = cache / f"{what.split()[0]}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{folder.name}.lock", "w") as lock:
        locks.take(lock)
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            store.write(partial, make(report))
            report.settle()
            (partial / "report.json").write_text(json.dumps(report.summary(), ensure_ascii=False), encoding="utf-8")
            os.rename(partial, folder)
    return store.read(folder)
