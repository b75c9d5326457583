"""Prompts of GRPO and on-policy distillation: what a model is asked, with the reference that its answers are checked against.

A row is `{"messages": […], "kind": "boxed_math", "reference": "42"}`; `messages` (or `prompt`) ends with the user's turn (or a
tool's), `kind` is one that the mix of rewards knows. A reference is text, a number, or, for a call of a tool, an object. Other
keys are ignored. Each reward tries its reference when the row is read: what it could never reward is dropped or refused here,
not counted as zeros for days. A distillation needs neither kind nor reference, and takes dialogues of sft as well, whose last
answer it may learn from (`open_checker`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nemo_plugins.alignment import rewards
from nemo_plugins.data.batches import batches
from nemo_plugins.data.chat import messages, rows
from nemo_plugins.data.chat.evaluation_items import EvaluationItems
from nemo_plugins.data.chat.rows import Fault, Report
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.runs.errors import UserError

NO_REFERENCE = frozenset({"boxed_format", "tool_call_format", "polish_language", "length"})  # these look at the answer alone

Mix = Mapping[str, Mapping[str, float]]  # kind of prompt → reward's name → weight, as `rewards.scoring.Scorer` takes it


@dataclass(frozen=True)
class Prompt:
    """What is asked.

    Attributes:
        messages: plain turns, the last one the user's or a tool's.
        kind: of the prompt, a key of the mix.
        reference: as the rewards take it; "" where none of the kind's rewards needs one.
        where: `file:line`.
        ids: tokens from BOS to the assistant's header, after which the model answers; empty before `encode`.
        answer: the row's own, "" where it has none; answer_ids: its tokens and the one that ends the turn.
    """

    messages: list[dict[str, str]]
    kind: str
    reference: str
    where: str = ""
    ids: tuple[int, ...] = ()
    answer: str = ""
    answer_ids: tuple[int, ...] = ()

    @property
    def whole(self) -> list[dict[str, str]]:
        """The turns with the row's own answer."""
        return [*self.messages, {"role": "assistant", "content": self.answer}]

    @property
    def dialogues(self) -> tuple[list[dict[str, str]], ...]:
        """What a chat template has to write."""
        return (self.whole if self.answer else self.messages,)

    @property
    def text(self) -> str:
        """The last turn's words: what a reward gets as `prompt`."""
        return self.messages[-1]["content"]


def checker(
    mix: Mix, options: Mapping[str, Mapping[str, object]] | None = None, own: Mapping[str, str] | None = None
) -> rows.Check[Prompt]:
    """A check for `rows.read` that knows which rewards each kind of prompt has.

    Args:
        options: reward's name → its keyword arguments.
        own: reward's name → "path/to/file.py:function".
    Raises:
        UserError: no mix, an unknown reward or option.
        Fault: when called: as `messages.check` for the turns; kinds kind, no_reference, reference.
    """
    referenced = _referenced(mix, options, own)

    def check(row: dict, where: str, report: Report) -> Prompt:
        tools = messages.check_tools(row.get("tools"))
        turns = messages.check_turns(row.get("messages", row.get("prompt")), tools, ends=("user", "tool"))
        kind = row.get("kind")
        if not isinstance(kind, str) or kind not in mix:
            raise Fault("kind", f"expected one that rewards are set for ({', '.join(mix)}), got {kind!r}")
        wanted = referenced(kind, row.get("reference"))
        messages.note_special(turns, where, report)
        return Prompt(messages.plain(turns, tools), kind, wanted, where)

    return check


def open_checker(
    mix: Mix, options: Mapping[str, Mapping[str, object]] | None = None, own: Mapping[str, str] | None = None,
    *, answered: bool = False,
) -> rows.Check[Prompt]:  # fmt: skip
    """As `checker`, for rows that need not be scored: without a kind that the mix knows, kind and reference are "".

    Args:
        answered: whether each row has to end with the assistant's answer; else it may.
    Raises:
        UserError: as `checker`.
        Fault: when called: as `messages.check` for the turns; kinds no_answer, no_reference, reference.
    """
    referenced = _referenced(mix, options, own)

    def check(row: dict, where: str, report: Report) -> Prompt:
        turns, answer = row.get("messages", row.get("prompt")), ""
        if isinstance(turns, list) and turns and isinstance(turns[-1], dict) and turns[-1].get("role") == "assistant":
            *plain, last = messages.check(row | {"messages": turns}, where, report).messages
            answer = last["content"]
        elif answered:
            raise Fault("no_answer", "expected the assistant's answer as the last turn: opd.share is below 1")
        else:
            tools = messages.check_tools(row.get("tools"))
            plain = messages.plain(messages.check_turns(turns, tools, ends=("user", "tool")), tools)
            messages.note_special(plain, where, report)
        kind = row.get("kind")
        if not isinstance(kind, str) or kind not in mix:
            return Prompt(plain, "", "", where, answer=answer)
        return Prompt(plain, kind, referenced(kind, row.get("reference")), where, answer=answer)

    return check


def _referenced(
    mix: Mix, options: Mapping[str, Mapping[str, object]] | None, own: Mapping[str, str] | None
) -> Callable[[str, Any], str]:
    """From a kind of prompt and its row's reference to that reference as text, tried by the kind's rewards."""
    if not mix or not all(mix.values()):
        raise UserError(f"rewards: {dict(mix)}", "expected a reward and its weight for every kind of prompt")
    own = own or {}
    named = {name: rewards.get(own.get(name, name), **(options or {}).get(name, {})) for of in mix.values() for name in of}
    # A user's own reward may do anything with an empty answer, so only ours try their references.
    tried = {name: reward for name, reward in named.items() if name in rewards.NAMES and name not in (*NO_REFERENCE, *own)}

    def referenced(kind: str, reference: Any) -> str:
        wanted = _reference(reference, needed=not NO_REFERENCE.issuperset(mix[kind]), kind=kind)
        for name in mix[kind]:
            try:
                if name in tried:
                    tried[name]("", "", wanted)
            except ValueError as error:
                raise Fault("reference", str(error)) from None
        return wanted

    return referenced


def _reference(value: Any, *, needed: bool, kind: str) -> str:
    """A reference as text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        if needed:
            raise Fault("no_reference", f"expected `reference`: answers to {kind} are checked against it")
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float | dict):
        raise Fault("reference", f"expected a text, a number or an object, got {type(value).__name__}")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def encode(prompts: Iterable[Prompt], template: ChatTemplate, longest: int, report: Report) -> Iterator[Prompt]:
    """The prompts with their `ids`.

    Args:
        longest: tokens of a prompt at most; a longer one is counted in `report` and left out.
    """
    for batch in batches(prompts, messages.BATCH):
        for prompt, ids in zip(batch, template.prompts(prompt.messages for prompt in batch), strict=True):
            if len(ids) > longest:
                report.late(prompt.where, Fault("prompt_too_long", f"{len(ids)} tokens, a prompt may have {longest}"))
                continue
            yield replace(prompt, ids=tuple(ids), answer_ids=_answer_ids(prompt, template))


def _answer_ids(prompt: Prompt, template: ChatTemplate) -> tuple[int, ...]:
    if not prompt.answer:
        return ()
    [encoded] = template.encode([prompt.whole])
    begin, end = encoded.learned[-1]
    return tuple(encoded.ids[begin:end])


def load(
    paths: Iterable[Any],
    template: ChatTemplate,
    check: rows.Check[Prompt],
    *,
    key: str,
    policy: str,
    longest: int,
    items: EvaluationItems | None = None,
) -> tuple[list[Prompt], dict[str, Any]]:
    """All prompts of `.jsonl[.gz|.zst]` files, in their order, and what became of the rows (`rows.Report.summary`).

    Args:
        check: `checker`'s or `open_checker`'s.
        key: of the configuration, for messages (`grpo.data`).
        items: of evaluation, which no prompt may hold.
        policy: "drop" or "error", for rows that cannot be used.

    Raises:
        UserError: as `checker` and `rows.read`.
    """
    report = Report(key, policy)
    paths = list(paths)
    if items:
        check = items.guard(check, items.counted(rows.Piece(Path(path)) for path in paths))
    check = template.text.guarded(check)
    found = list(encode(rows.read(paths, check, report), template, longest, report))
    report.settle()
    return found, report.summary()
