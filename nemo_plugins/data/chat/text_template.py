"""A tokenizer's chat template as text: whose words a rendered dialogue holds where, learnt by rendering it.

The text is what `apply_chat_template` of transformers writes, but for one difference: where a message contains the name of a
special token (`<|im_end|>`, `</s>`, …), `apply_chat_template` makes that token of it, so that a user could end their turn and
speak as the system; here the name stays text.

An answer begins where the rendering with a generation prompt ends, and ends with the first special token behind it; where the
template marks answers itself (`{% generation %}`), they are what it marks.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nemo_plugins.data.chat.rows import Check, Fault, Report
from nemo_plugins.runs.errors import Unusable, UserError

Messages = Sequence[Mapping[str, str]]

START, END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{{ bos_token or '' }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SWITCH = "chat.template=chatml"
FILE, DESCRIPTION = "chat_template.jinja", "tokenizer_config.json"
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
VEIL = f"\ue000{secrets.token_hex(16)}\ue000"  # inside a name that stays text; no message contains it
TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")


def _dialogue(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


ANSWERED = _dialogue("Ile?", "Dwa.")
PROBES = (
    ANSWERED,
    _dialogue("  Ile?\n\n", " Dwa 😀\n", "\tZażółć gęślą jaźń.", "5"),
    _dialogue("1 + 1?", "<think>\nLiczę.\n</think>\n\n2", "2 + 1?", "<think>\nZnów liczę.\n</think>\n\n3"),
)


@dataclass(frozen=True)
class Rendered:
    """A rendered dialogue.

    Attributes:
        parts: its texts and special tokens in their order, the latter with True.
        learned: ranges of characters of all parts together that an assistant has to learn, the end of its turn included.
    """

    parts: tuple[tuple[str, bool], ...]
    learned: tuple[tuple[int, int], ...] = ()


class TextTemplate:
    """A chat template.

    Args:
        source: in Jinja.
        special: what it calls the special tokens: `bos_token` and the like, as of `special_tokens_map` of transformers.
        control: names of all special tokens.
        where: the file that it is in, for messages.
    Raises:
        Unusable: it is no Jinja.
    """

    def __init__(self, source: str, special: Mapping[str, Any], control: Collection[str], where: str):
        self.source = source
        self.special = dict(special)
        self.control = frozenset(control)
        self.where = where
        names = [re.escape(name) for name in sorted(control, key=len, reverse=True)]
        self._control = re.compile(f"({'|'.join(names) or '(?!)'})")
        from nemo_plugins.data.chat import jinja  # here, for what reads no template takes no time for Jinja

        self._marks = (jinja.OPENED, jinja.CLOSED)
        try:
            self._template = jinja.compiled(source)
        except ValueError as error:
            raise self._unusable(f"cannot be read: {error}") from None

    @classmethod
    def of(cls, tokenizer) -> TextTemplate:
        """That of a tokenizer of transformers. Raises Unusable where it has none."""
        control = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        where = tokenizer.name_or_path or "tokenizer"
        if not tokenizer.chat_template:
            raise without(where)
        return cls(tokenizer.get_chat_template(), tokenizer.special_tokens_map, control, where)

    @classmethod
    def of_folder(cls, folder: Path, source: str | None = None, added: Collection[str] = ()) -> TextTemplate:
        """That of a folder with a tokenizer, read without transformers.

        Args:
            source: another template in the place of the folder's own.
            added: special tokens beside the folder's own.
        Raises:
            Unusable: it has none.
        """
        described = _json(folder / DESCRIPTION)
        named = _json(folder / "special_tokens_map.json") | {key: one for key, one in described.items() if one is not None}
        special = {role: content for role in ROLES if (content := _content(named.get(role)))}
        # all of them are in the small file where it has any
        tokens = described.get("added_tokens_decoder", {}).values() or _json(folder / "tokenizer.json").get("added_tokens", ())
        control = {*added, *special.values(), *(token["content"] for token in tokens if token["special"])}
        file = folder / (FILE if (folder / FILE).is_file() else DESCRIPTION)
        own = file.read_text(encoding="utf-8") if file.name == FILE else described.get("chat_template")
        if isinstance(own, list):  # several by name
            own = next((one["template"] for one in own if one["name"] == "default"), None)
        template = source or own
        if not template:
            raise without(folder)
        return cls(template, special, control, str(file))

    @cached_property
    def end(self) -> str:
        """The special token that ends an assistant's turn. Raises Unusable where there is none."""
        try:
            text = self._text(ANSWERED)
            [(begin, end)] = self._answers(ANSWERED, text)
        except Fault as fault:
            raise self._unusable(str(fault)) from None
        return self._control.findall(text[begin:end])[-1]

    def render(self, messages: Messages, add_generation_prompt: bool = False) -> Rendered:
        """A dialogue, as `apply_chat_template` names its arguments. Raises Fault where the template refuses it."""
        return self._rendered(self._text(messages, add_generation_prompt), ())

    def asked(self, messages: Messages) -> Rendered:
        """A dialogue of the terminal up to where the assistant answers. Raises UserError where the template refuses it."""
        try:
            return self.render(messages, add_generation_prompt=True)
        except Fault as fault:
            without_system = ["without a system prompt: chat.system=''"] if messages[0]["role"] == "system" else []
            raise UserError(f"{self.where}: {fault}", *without_system, f"as ChatML: {SWITCH}") from None

    def learned(self, messages: Messages) -> Rendered:
        """A dialogue with the ranges of its answers.

        Raises:
            Fault: kind template: it refuses the dialogue, leaves out what was said, or does not say where an answer is.
        """
        text = self._text(messages, tags=True)
        plain = self._unmarked(text)
        answers = self._answers(messages, plain)
        for place, message in enumerate(messages, 1):
            if self._veiled(message["content"]).strip() not in plain:
                raise Fault("template", f"turn {place}: the chat template leaves out what the {message['role']} says")
        return self._rendered(plain, self._tagged(text, len(answers)) if TAG.search(self.source) else answers)

    def check(self) -> None:
        """Whether the turns of any dialogue can be learnt by rendering it. Raises Unusable where they cannot."""
        try:
            for probe in PROBES:
                whole = self._text(probe)
                for place, message in enumerate(probe, 1):
                    if message["role"] == "assistant" and not whole.startswith(self._text(probe[:place])):
                        raise Fault("template", f"turn {place} is changed once others follow, as by dropping its thinking")
                self.learned(probe)
        except Fault as fault:
            raise self._unusable(str(fault)) from None

    def guarded(self, check: Check) -> Check:
        """The check of a row (`rows.read`), which also refuses one whose dialogues the template cannot write."""

        def guarded(row: dict, where: str, report: Report) -> Any:
            made = check(row, where, report)
            for messages in made.dialogues:
                if messages[-1]["role"] == "assistant":
                    self.learned(messages)
                else:
                    self.render(messages, add_generation_prompt=True)
            return made

        return guarded

    def _text(self, messages: Messages, prompt: bool = False, tags: bool = False) -> str:
        """What the template writes, names in messages veiled."""
        veiled = [{**message, "content": self._veiled(message["content"])} for message in messages]
        text = self._template(messages=veiled, tools=None, documents=None, add_generation_prompt=prompt, **self.special)
        return text if tags else self._unmarked(text)

    def _unmarked(self, text: str) -> str:
        opened, closed = self._marks
        return text.replace(opened, "").replace(closed, "")

    def _answers(self, messages: Messages, text: str) -> list[tuple[int, int]]:
        """Where the answers are in a rendered dialogue, by what a generation prompt adds."""
        found = []
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._text(messages[:place], prompt=True)
            if not text.startswith(before):
                why = "what stands before the answer is another once the answer is there"
                raise Fault("template", f"turn {place + 1}: {why}: {_tail(before)!r} is not in the whole dialogue")
            end = self._control.search(text, len(before))
            if end is None:
                raise Fault("template", f"turn {place + 1}: no special token ends it: {_tail(text)!r}")
            if self._veiled(message["content"]).strip() not in text[len(before) : end.start()]:
                said = _clean(text[len(before) : end.end()])
                raise Fault("template", f"turn {place + 1}: behind the generation prompt it writes {said!r}, not the answer")
            found.append((len(before), end.end()))
        return found

    def _tagged(self, text: str, answers: int) -> list[tuple[int, int]]:
        """Where `{% generation %}` has the answers, in the text without its marks."""
        opened, closed = self._marks
        before, *marked = text.split(opened)
        found, at = [], len(before)
        for piece in marked:
            inner, _, after = piece.partition(closed)
            if not self._control.search(inner):
                raise Fault("template", f"{{% generation %}} marks {_clean(inner)!r}, which no special token ends")
            found.append((at, at + len(inner)))
            at += len(inner) + len(after)
        if len(found) != answers:
            raise Fault("template", f"{{% generation %}} marks {len(found)} parts of a dialogue of {answers} answers")
        return found

    def _rendered(self, text: str, spans: Sequence[tuple[int, int]]) -> Rendered:
        pieces = self._control.split(text)
        parts = tuple((_clean(piece), place % 2 == 1) for place, piece in enumerate(pieces) if piece)
        return Rendered(parts, tuple((_place(text, begin), _place(text, end)) for begin, end in spans))

    def _veiled(self, text: str) -> str:
        return self._control.sub(lambda name: f"{name[0][0]}{VEIL}{name[0][1:]}", text)

    def _unusable(self, why: str) -> Unusable:
        return Unusable(
            f"{self.where}: the chat template: {why}",
            "expected one that writes a turn the same whatever follows, and a special token at its end",
            f"correct that file, or write dialogues as ChatML: {SWITCH}",
        )


def without(where: object) -> Unusable:
    """What is said of a tokenizer without a chat template."""
    return Unusable(
        f"{where}: the tokenizer has no chat template",
        f"expected {FILE}, or chat_template in {DESCRIPTION}",
        f"add that file, or write dialogues as ChatML: {SWITCH}",
    )


def _clean(text: str) -> str:
    return text.replace(VEIL, "")


def _place(text: str, at: int) -> int:
    """Where a place of a veiled text is without the veils."""
    return at - len(VEIL) * text.count(VEIL, 0, at)


def _tail(text: str) -> str:
    return f"…{_clean(text)[-60:]}" if len(text) > 60 else _clean(text)


def _content(token: Any) -> str | None:
    """A token's name, as `tokenizer_config.json` has it either way."""
    return token.get("content") if isinstance(token, dict) else token


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise Unusable(f"{file} cannot be read: {error}", "expected JSON; fetch this file again") from None
