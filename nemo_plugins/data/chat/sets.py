"""Chat files to encoded samples: checked, cut to what fits, made once and reused while files and tokenizer stay the same.

A stage that trains makes them in one of its processes while the others wait. Large sets are made before, by all cores of a
machine without GPUs or by a job array (`parallel_sets`): the folder is the same, to the byte.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.data.chat import encode, messages, preferences, rows, store
from nemo_plugins.data.chat.evaluation_items import EvaluationItems
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.runs import locks
from nemo_plugins.runs.atomic import whole
from nemo_plugins.runs.fingerprint import fingerprint

FORMAT = 3  # raise when checks or encoding change: older folders are then made again
CACHE = ".chats"  # below run.root: encoded dialogues, shared by its runs
LARGE = 64 << 20  # bytes of files from which on a job of GPUs should not be the one that encodes them
SETS = ("data", "heldout")


@dataclass(frozen=True)
class ChatSet:
    """Rows of chat files, and what is made of them.

    Attributes:
        key: of the configuration, for messages.
        policy: "drop" or "error", for rows that cannot be used.
        seq_length: places that a sample may take.
        learn: as of `encode.encode`; None: the rows are preference pairs, chosen and rejected in turn.
        items: of evaluation, which no sample may hold.
    """

    paths: tuple[Path, ...]
    key: str
    policy: str
    seq_length: int
    learn: str | None = None
    items: EvaluationItems | None = None

    @cached_property
    def _content(self) -> str:
        return " ".join(map(fingerprint, self.paths))

    def folder(self, template: ChatTemplate, cache: Path) -> Path:
        """Where its samples are, or will be: the name changes with all that decides what is in it."""
        kind = "pairs" if self.learn is None else f"chat {self.learn}"
        items = f" {self.items.key}" if self.items else ""
        content = f"{FORMAT} {kind} {self.seq_length} {self.policy}{items} {template.fingerprint} {self._content}"
        return cache / f"{kind.split()[0]}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def report(self) -> rows.Report:
        return rows.Report(self.key, self.policy)

    def runs_of_items(self, pieces: Iterable[rows.Piece]) -> Counter[str]:
        """How many rows hold each run of words of an evaluation item; nothing where no items are named."""
        return self.items.counted(pieces) if self.items else Counter()

    def samples(
        self, pieces: Iterable[rows.Piece], template: ChatTemplate, counts: Mapping[str, int], report: rows.Report
    ) -> Iterator[encode.Sample]:
        """Samples that fit, in their order.

        Args:
            counts: `runs_of_items` of the whole set.
        """
        check = preferences.check if self.learn is None else messages.check
        checked = template.text.guarded(self.items.guard(check, counts) if self.items else check)
        found = (row for piece in pieces for row in rows.read_piece(piece, checked, report))
        if self.learn is None:
            yield from preferences.encode(found, template, self.seq_length, report)
            return
        for sample in encode.encode(found, template, self.learn):
            if sample.positions > self.seq_length:
                report.late(
                    sample.where, rows.Fault("too_long", f"{sample.positions} tokens, a window holds {self.seq_length}")
                )
            elif not sample.learned.any():
                report.late(sample.where, rows.Fault("nothing_learned", "no token of an assistant"))
            else:
                yield sample


def of(cfg: Recipe, stage: str, name: str, items: EvaluationItems | None) -> ChatSet:
    """The set `name` of `sft` or `dpo`; held-out rows may hold evaluation items, nothing is learned from them."""
    train = getattr(cfg, stage)
    return ChatSet(
        tuple(runs.resolve(path) for path in getattr(train, name)),
        f"{stage}.{name}",
        train.bad_rows,
        train.seq_length,
        train.learn if stage == "sft" else None,
        items if name == "data" else None,
    )


def cache(cfg: Recipe) -> Path:
    """The folder of all sets of a `run.root`."""
    return runs.run_root(cfg).parents[str(cfg.run.name).count("/")] / CACHE


def samples(made_of: ChatSet, template: ChatTemplate, folder: Path) -> store.Samples:
    """The samples of a set, made if they are not in the cache `folder` yet: under a lock, one process at a time.

    Raises:
        UserError: as `rows.read`.
    """
    to = made_of.folder(template, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{to.name}.lock", "w") as lock:
        locks.take(lock)
        if not to.exists():
            if sum(path.stat().st_size for path in made_of.paths) >= LARGE:
                runs.say(
                    f"{made_of.key} is tokenised by one process while this job waits: python recipes/data.py"
                    " corpus.task=chats does it before, with all cores and no GPU (docs/data.md)"
                )
            pieces = [rows.Piece(path) for path in made_of.paths]
            report = made_of.report()
            counts = made_of.runs_of_items(pieces)
            with whole(to) as made:
                store.write(made, made_of.samples(pieces, template, counts, report))
                finish(made, report)
    return store.read(to)


def finish(folder: Path, report: rows.Report) -> None:
    """Write what became of the rows. Raises UserError where the policy refuses them, or none is left."""
    report.settle()
    (folder / "report.json").write_text(json.dumps(report.summary(), ensure_ascii=False), encoding="utf-8")


def dialogues(
    paths: list[Path], template: ChatTemplate, cache: Path, *, key: str, policy: str, seq_length: int, learn: str,
    items: EvaluationItems | None = None,
) -> store.Samples:  # fmt: skip
    """Samples of dialogues that fit `seq_length` places. Arguments and errors as of `ChatSet` and `samples`."""
    return samples(ChatSet(tuple(paths), key, policy, seq_length, learn, items), template, cache)


def pairs(
    paths: list[Path], template: ChatTemplate, cache: Path, *, key: str, policy: str, seq_length: int,
    items: EvaluationItems | None = None,
) -> store.Samples:  # fmt: skip
    """Samples of preference pairs, chosen and rejected in turn. Arguments and errors as of `ChatSet` and `samples`."""
    return samples(ChatSet(tuple(paths), key, policy, seq_length, None, items), template, cache)
