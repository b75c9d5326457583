"""Dialogues of supervised fine-tuning: rows of `messages`, with an optional `weight` and `tools`, checked and made plain.

A row is `{"messages": [{"role": …, "content": …}, …], "weight": 1.0, "tools": […]}`; other keys are ignored. Roles: `system`
(first or not at all), then `user` and `assistant` in turn, the assistant last; after an assistant's `tool_calls` one `tool`
turn each, then the assistant again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nemo_plugins.data.chat.rows import Fault, Report
from nemo_plugins.data.chat.truncation import truncated

BATCH = 512  # dialogues handed to the tokenizer at once
ROLES = ("system", "user", "assistant", "tool")
# What may follow a turn; an assistant that calls tools is a case of its own.
FOLLOWS = {None: ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user",), "calls": ("tool",)}
WEIGHTS = 1e-6, 1e6  # what a weight may be; far beyond lies what fp32 cannot hold
SPECIAL = re.compile(r"<\|[\w-]{1,40}\|>|\[/?INST\]|</?s>|<start_of_turn>|<end_of_turn>")


@dataclass(frozen=True)
class Chat:
    """A dialogue of plain turns, and where it stood.

    Attributes:
        messages: `{"role", "content"}` each; tools and calls have become text (`plain`).
        weight: of the sample in the loss.
        where: `file:line`.
    """

    messages: list[dict[str, str]]
    weight: float = 1.0
    where: str = ""
    tools: list[dict] = field(default_factory=list, repr=False)

    @property
    def dialogues(self) -> tuple[list[dict[str, str]], ...]:
        """What a chat template has to write."""
        return (self.messages,)


def check(row: dict, where: str, report: Report) -> Chat:
    """A row as a dialogue, for `rows.read`.

    Raises:
        Fault: kinds no_messages, role, alternation, empty_turn, text, tools, weight, truncated.
    """
    tools = check_tools(row.get("tools"))
    messages = check_turns(row.get("messages"), tools, ends=("assistant",))
    if row.get("finish_reason") == "length":
        raise Fault("truncated", "finish_reason is length")
    for place, message in enumerate(messages, 1):
        if message["role"] == "assistant" and not message.get("tool_calls") and (why := truncated(message)):
            raise Fault("truncated", f"turn {place} {why}")
    note_special(messages, where, report)
    return Chat(plain(messages, tools), weight(row), where, tools)


def check_turns(messages: Any, tools: Sequence[dict], ends: tuple[str, ...]) -> list[dict]:
    """Roles, their order and their texts.

    Args:
        ends: roles that the last turn may have.
    Raises:
        Fault: kinds no_messages, role, alternation, empty_turn, text, tools.
    """
    if not isinstance(messages, list) or not messages:
        raise Fault("no_messages", "expected `messages`, a list of turns")
    before, calls = None, 0
    for place, message in enumerate(messages, 1):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise Fault("role", f"turn {place}: expected one of {', '.join(ROLES)}, got {role!r}")
        allowed = FOLLOWS["calls"] if calls else ("assistant",) if before == "tool" else FOLLOWS[before]
        if role not in allowed:
            after = f"after {before}" if before else "first"
            raise Fault("alternation", f"turn {place}: expected {' or '.join(allowed)} {after}, got {role}")
        calls = calls - 1 if role == "tool" else len(check_calls(message, tools, place))
        check_text(message, place, may_be_empty=calls > 0 and role == "assistant")
        before = role
    if before not in ends or (calls and before == "tool"):
        raise Fault("alternation", f"expected the last turn to be {' or '.join(ends)}, got {before}")
    return messages


def check_text(message: dict, place: int, *, may_be_empty: bool = False) -> None:
    """The turn has a text that a tokenizer can read.

    Raises:
        Fault: kinds text, empty_turn.
    """
    content = message.get("content")
    if content is None and may_be_empty:
        return
    if not isinstance(content, str):
        raise Fault("text", f"turn {place}: expected content as text, got {type(content).__name__}")
    if not content.strip() and not may_be_empty:
        raise Fault("empty_turn", f"turn {place} ({message['role']}) is empty")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        raise Fault("text", f"turn {place}: half of a surrogate pair (a cut \\ud83d… escape)") from None


def check_tools(tools: Any) -> list[dict]:
    """The functions that a row offers, each as its name, description and parameters.

    Raises:
        Fault: kind tools.
    """
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise Fault("tools", f"expected `tools` as a list, got {type(tools).__name__}")
    functions = [tool.get("function", tool) if isinstance(tool, dict) else tool for tool in tools]
    for function in functions:
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise Fault("tools", "expected each tool with a `name`, alone or under `function`")
    names = [function["name"] for function in functions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Fault("tools", f"offered twice: {', '.join(twice)}")
    return functions


def check_calls(message: dict, tools: Sequence[dict], place: int) -> list[dict]:
    """The calls of a turn as `{"name", "arguments"}`; none where it has none.

    Raises:
        Fault: kind tools: not the assistant's, malformed, or of a function that the row does not offer.
    """
    calls = message.get("tool_calls")
    if not calls:
        return []
    if message["role"] != "assistant" or not isinstance(calls, list):
        raise Fault("tools", f"turn {place}: expected `tool_calls` as a list in an assistant's turn")
    found, offered = [], [tool["name"] for tool in tools]
    for call in calls:
        call = call.get("function", call) if isinstance(call, dict) else {}
        name, arguments = (call.get("name"), call.get("arguments", {})) if isinstance(call, dict) else (None, None)
        if isinstance(arguments, str):  # as OpenAI's API has them
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                raise Fault("tools", f"turn {place}: the arguments of {name} are not JSON") from None
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise Fault("tools", f"turn {place}: expected each call with a name and an object of arguments")
        if name not in offered:
            raise Fault("tools", f"turn {place} calls {name!r}, offered: {', '.join(offered) or 'none'}")
        found.append({"name": name, "arguments": arguments})
    return found


def weight(row: dict) -> float:
    """The sample's weight in the loss, 1 where none is given.

    Raises:
        Fault: kind weight: no number, or outside of `WEIGHTS`.
    """
    value = row.get("weight", 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not WEIGHTS[0] <= value <= WEIGHTS[1]:
        raise Fault("weight", f"expected a number from {WEIGHTS[0]:g} to {WEIGHTS[1]:g}, got {str(value)[:40]}")
    return float(value)


def note_special(messages: Sequence[dict], where: str, report: Report) -> None:
    """Count a row whose texts hold some model's control tokens: often a dialogue that was rendered before."""
    for message in messages:
        if match := SPECIAL.search(message.get("content") or ""):
            report.notice(where, "special_token_text", f"{match[0]} in a {message['role']}'s text stays text")
            return


def plain(messages: Sequence[dict], tools: Sequence[dict]) -> list[dict[str, str]]:
    """Turns of role and content alone, which every ChatML template writes alike.

    Tools are listed in the system turn as `<tools>`, one JSON object a line; a call is `<tool_call>` with JSON of name and
    arguments, as Hermes and Qwen write it and as the reward `tool_call` reads it.
    """
    turns = []
    for place, message in enumerate(messages, 1):
        calls = [f"<tool_call>\n{_json(call)}\n</tool_call>" for call in check_calls(message, tools, place)]
        turns.append({"role": message["role"], "content": "\n".join(filter(None, [message.get("content") or "", *calls]))})
    if tools:
        listed = "\n".join(["<tools>", *map(_json, tools), "</tools>"])
        if turns[0]["role"] == "system":
            turns[0]["content"] += f"\n\n{listed}"
        else:
            turns.insert(0, {"role": "system", "content": listed})
    return turns


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Fault("text", "a tool or its call holds half of a surrogate pair (a cut \\ud83d… escape)") from None
    return text
