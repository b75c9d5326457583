"""Preference pairs: one prompt, a chosen answer and a rejected one, checked and encoded.

A row is `{"messages": […], "chosen": "…", "rejected": "…"}`; `messages` (or `prompt`) ends with the user's turn (or a tool's),
the answers are texts or lists of one assistant's turn. Other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nemo_plugins.data.batches import batches
from nemo_plugins.data.chat import messages
from nemo_plugins.data.chat.rows import Fault, Report
from nemo_plugins.data.chat.template import ChatTemplate

if TYPE_CHECKING:
    from nemo_plugins.data.chat.encode import Sample


@dataclass(frozen=True)
class Pair:
    """A prompt with two answers, and where it stood (`file:line`)."""

    prompt: list[dict[str, str]]
    chosen: str
    rejected: str
    where: str = ""

    @property
    def dialogues(self) -> tuple[list[dict[str, str]], ...]:
        """What a chat template has to write: the prompt with the chosen answer, and with the rejected one."""
        return tuple([*self.prompt, {"role": "assistant", "content": answer}] for answer in (self.chosen, self.rejected))


def check(row: dict, where: str, report: Report) -> Pair:
    """A row as a pair, for `rows.read`.

    Raises:
        Fault: as `messages.check` for the prompt; kinds answer, empty_turn, truncated and identical for the answers.
    """
    tools = messages.check_tools(row.get("tools"))
    prompt = messages.check_turns(row.get("messages", row.get("prompt")), tools, ends=("user", "tool"))
    chosen, rejected = (_answer(row.get(name), name) for name in ("chosen", "rejected"))
    if why := messages.truncated(chosen):
        raise Fault("truncated", f"chosen {why}")
    if why := messages.truncated(rejected):  # a fair reason to reject it, but many of them teach length alone
        report.notice(where, "rejected_truncated", f"rejected {why}")
    chosen, rejected = chosen["content"], rejected["content"]
    if chosen.split() == rejected.split():
        raise Fault("identical", "chosen and rejected are the same text: nothing can be learned from them")
    messages.note_special(prompt, where, report)
    return Pair(messages.plain(prompt, tools), chosen, rejected, where)


def _answer(value: Any, name: str) -> dict:
    """An answer as a turn."""
    turn = value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) else {"content": value}
    turn = {**turn, "role": turn.get("role", "assistant")}
    if turn["role"] != "assistant" or not isinstance(turn.get("content"), str):
        raise Fault("answer", f"expected {name} as a text or a list of one assistant's turn")
    messages.check_text(turn, 1)
    return turn


def encode(pairs: Iterable[Pair], template: ChatTemplate, seq_length: int, report: Report) -> Iterator[Sample]:
    """Two samples of each pair, chosen and rejected, of which the answer is learned.

    Args:
        seq_length: places of the longest sample; a pair with a longer one is counted in `report` and left out, apart from those
            whose prompt alone is that long.
    """
    from nemo_plugins.data.chat.encode import sample  # numpy

    for batch in batches(pairs, messages.BATCH):
        encoded = template.encode(dialogue for pair in batch for dialogue in pair.dialogues)
        for pair, chosen, rejected in zip(batch, encoded[::2], encoded[1::2], strict=True):
            both = [sample(of, "last", where=pair.where) for of in (chosen, rejected)]
            if (prompt := int(both[0].learned.argmax())) >= seq_length:
                report.late(pair.where, Fault("prompt_too_long", f"{prompt} tokens, a sequence holds {seq_length}"))
                continue
            if (longest := max(one.positions for one in both)) > seq_length:
                report.late(pair.where, Fault("too_long", f"{longest} tokens, a sequence holds {seq_length}"))
                continue
            yield from both
