"""Rendered dialogues to token ids: each text between two special tokens is a section, which no name in it can end.

Token for token what transformers makes of the rendered text, where no message contains the name of a special token.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nemo_plugins.data.chat.text_template import Rendered
from nemo_plugins.data.control_tokens import Ordinary
from nemo_plugins.runs.errors import UserError


@dataclass(frozen=True)
class Encoded:
    """A dialogue of t tokens.

    Attributes:
        ids: token ids, t of them.
        learned: ranges of tokens that an assistant has to learn.
    """

    ids: list[int]
    learned: list[tuple[int, int]]


class Sections:
    """The tokenizer of sections.

    Args:
        tokenizer: a fast one of transformers.
    Raises:
        UserError: it is not a fast one.
    """

    def __init__(self, tokenizer):
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(f"tokenizer: {type(tokenizer).__name__} is not a fast one", "expected a folder with tokenizer.json")
        # A section behind a special token is cut otherwise than a text's beginning (SentencePiece puts a space before that), so
        # each is encoded behind a token of our own, which no text can contain. Names of special tokens are ordinary text here.
        self._mark = f"\ue000{secrets.token_hex(16)}\ue000"
        self._sections = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
        self._sections.no_truncation()
        self._sections.no_padding()
        self._sections.post_processor = None  # a byte-level one takes the spaces at its edges out of a token's place
        self._sections.add_tokens([self._mark])
        self._ordinary = Ordinary(self._sections)
        self._id = tokenizer.convert_tokens_to_ids

    def encode(self, dialogues: Iterable[Rendered]) -> list[Encoded]:
        """The tokens of several dialogues, encoded together."""
        dialogues = list(dialogues)
        texts = [
            text if place == 0 else self._mark + text
            for dialogue in dialogues
            for place, (text, control) in enumerate(dialogue.parts)
            if not control
        ]
        sections = iter(self._sections.encode_batch(texts, add_special_tokens=False))
        return [self._encoded(dialogue, sections) for dialogue in dialogues]

    def _encoded(self, dialogue: Rendered, sections) -> Encoded:
        ids: list[int] = []
        starts: list[int] = []  # the character that a token begins at
        at = 0
        for place, (text, control) in enumerate(dialogue.parts):
            if control:
                ids.append(self._id(text))
                starts.append(at)
            else:
                self._add(next(sections), 0 if place == 0 else 1, at, ids, starts)
            at += len(text)
        # A token that straddles header and text counts as header: a model that answers after the header never writes it.
        learned = [(bisect_left(starts, begin), bisect_left(starts, end)) for begin, end in dialogue.learned]
        return Encoded(ids, learned)

    def _add(self, section, marks: int, at: int, ids: list[int], starts: list[int]) -> None:
        """Append a section's tokens, its `marks` first ones left out."""
        found: Sequence[int] = section.ids[marks:]
        at -= marks * len(self._mark)
        places = [at + begin for begin, _ in section.offsets[marks:]]
        if self._ordinary.text(found) is not found:
            spelt = [self._ordinary.text([id]) for id in found]
            places = [place for place, pieces in zip(places, spelt, strict=True) for _ in pieces]
            found = [id for pieces in spelt for id in pieces]
        ids += found
        starts += places
