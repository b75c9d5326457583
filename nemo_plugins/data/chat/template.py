"""ChatML from messages to tokens, with control tokens that no text can forge.

    <s><|im_start|>user\\n…<|im_end|>\\n<|im_start|>assistant\\n…<|im_end|>\\n

Token for token what `apply_chat_template` of transformers gives with the tokenizer's own template, which is checked when a
`ChatTemplate` is made. One difference is meant: where a text contains the name of a special token (`<|im_end|>`, `</s>`, …),
`apply_chat_template` turns it into that token, so that a user could end their turn and speak as the system; here it stays text,
cut into ordinary pieces, and decodes to the same characters.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nemo_plugins.data.control_tokens import Ordinary
from nemo_plugins.runs.errors import UserError

START, END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{{ bos_token or '' }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PROBES = (
    [("user", "Zażółć gęślą jaźń.")],
    [
        ("system", "Odpowiadaj krótko."),
        ("user", "  Ile?\n\n"),
        ("assistant", " Dwa 😀\n"),
        ("user", "\tOK"),
        ("assistant", "5"),
    ],
)


@dataclass(frozen=True)
class Turn:
    """The tokens of one turn.

    Attributes:
        role: whose turn it is.
        ids: from `<|im_start|>` to the line's end after `<|im_end|>`.
        content: index in `ids` of the text's first token.
        end: index after `<|im_end|>`; `ids[content:end]` is what an assistant has to learn.
    """

    role: str
    ids: list[int]
    content: int
    end: int


class ChatTemplate:
    """Writes dialogues as a tokenizer's ChatML.

    Args:
        tokenizer: a fast tokenizer of transformers; without a chat template it gets ChatML with its BOS, as Bielik has it.
        vocab_size: rows of the model's embedding, where known.

    Attributes:
        start, end: ids of the control tokens.
        bos: ids before the first turn, one or none.
        prompt: ids of `<|im_start|>assistant\\n`, after which a model answers.
        pad: an id for positions that hold nothing.

    Raises:
        UserError: a control token is missing or beyond the embedding, or the tokenizer's template is no plain ChatML.
    """

    def __init__(self, tokenizer, vocab_size: int | None = None):
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(f"tokenizer: {type(tokenizer).__name__} is not a fast one", "expected a folder with tokenizer.json")
        self.start, self.end = (_control(tokenizer, name, vocab_size) for name in (START, END))
        own = tokenizer.chat_template or CHATML
        rendered = tokenizer.apply_chat_template(_messages(PROBES[0]), chat_template=own, tokenize=False)
        begins = tokenizer.bos_token is not None and rendered.startswith(tokenizer.bos_token)
        self.bos = [tokenizer.bos_token_id] if begins else []
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0

        # A section after a control token is cut otherwise than a text's beginning (SentencePiece puts a space before that), so
        # each is encoded behind a token of our own, which no text can contain. Names of special tokens are ordinary text here.
        self._mark = f"\ue000{secrets.token_hex(16)}\ue000"
        self._sections = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
        self._sections.no_truncation()
        self._sections.no_padding()
        self._sections.add_tokens([self._mark])
        self._ordinary = Ordinary(self._sections)
        self._newline = self._encode(["\n"])[0].ids[1:]
        self.prompt = [self.start, *self._encode(["assistant\n"])[0].ids[1:]]
        content = f"{tokenizer.backend_tokenizer.to_str()} {self.bos}"
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]  # of all that decides which ids a dialogue gets
        _compare(self, tokenizer, own)

    def turns(self, dialogues: Sequence[Sequence[Mapping[str, str]]]) -> list[list[Turn]]:
        """The turns of several dialogues, encoded together; `bos` is not part of them."""
        headers = [f"{message['role']}\n" for messages in dialogues for message in messages]
        texts = [message["content"] for messages in dialogues for message in messages]
        sections = iter(self._encode([header + text for header, text in zip(headers, texts, strict=True)]))
        return [[self._turn(message["role"], next(sections)) for message in messages] for messages in dialogues]

    def ids(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = False) -> list[int]:
        """One dialogue's tokens, as `apply_chat_template` names its arguments."""
        [turns] = self.turns([messages])
        return [*self.bos, *(i for turn in turns for i in turn.ids), *(self.prompt if add_generation_prompt else ())]

    def _encode(self, texts: list[str]) -> list:
        return self._sections.encode_batch([self._mark + text for text in texts], add_special_tokens=False)

    def _turn(self, role: str, section) -> Turn:
        # A token that straddles header and text counts as header: a model that answers after the header never writes it.
        begin = len(self._mark) + len(role) + 1
        content = next((i for i, (at, _) in enumerate(section.offsets) if at >= begin), len(section.ids))
        body = [*section.ids[1:content], *self._ordinary.text(section.ids[content:])]
        return Turn(role, [self.start, *body, self.end, *self._newline], content, len(body) + 2)


def _control(tokenizer, name: str, vocab_size: int | None) -> int:
    """The id of a control token."""
    ids = tokenizer(name, add_special_tokens=False).input_ids
    advice = "ChatML needs it: take a tokenizer that has it, as Bielik's"
    if len(ids) != 1 or tokenizer.convert_ids_to_tokens(ids) != [name] or ids[0] == tokenizer.unk_token_id:
        raise UserError(f"tokenizer: no token {name}, it becomes {tokenizer.convert_ids_to_tokens(ids)}", advice)
    if ids[0] not in tokenizer.all_special_ids and not tokenizer.added_tokens_decoder[ids[0]].special:
        raise UserError(f"tokenizer: {name} is an ordinary token, so any text could contain it", "expected a special token")
    if vocab_size is not None and ids[0] >= vocab_size:
        raise UserError(f"tokenizer: {name} is token {ids[0]}, the model has {vocab_size}", "expected a model with that row")
    return ids[0]


def _messages(probe: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in probe]


def _compare(template: ChatTemplate, tokenizer, own: str) -> None:
    """Hold our tokens against those of transformers.

    Raises:
        UserError: they differ.
    """
    for probe in PROBES:
        for prompt in (False, True):
            wanted = tokenizer.apply_chat_template(_messages(probe), chat_template=own, add_generation_prompt=prompt)
            got = template.ids(_messages(probe), add_generation_prompt=prompt)
            if got != wanted:
                at = next(
                    (i for i, pair in enumerate(zip(got, wanted, strict=False)) if pair[0] != pair[1]),
                    min(len(got), len(wanted)),
                )
                ours, theirs = (tokenizer.convert_ids_to_tokens(ids[at : at + 8]) for ids in (got, wanted))
                raise UserError(
                    f"tokenizer: its chat template is not plain ChatML; at token {at} it has {theirs}, ChatML {ours}",
                    "expected what it writes to be <|im_start|>role, a line's end, the text, <|im_end|>, a line's end",
                    "give the tokenizer that template (assets/tiny_pl/chat_template.jinja), or take one that has it",
                )
