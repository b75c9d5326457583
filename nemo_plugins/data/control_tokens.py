"""Control tokens that no text can forge: `<s>` or `<|im_end|>` written in a document becomes ordinary tokens.

The `tokenizers` library's `encode_special_tokens` keeps it from looking for special tokens in a text. Some models
give them all the same, because they know the name as a piece of their own (Unigram; BPE with `ignore_merges`): such an id is
replaced by those of the name's characters.
"""

from __future__ import annotations

from collections.abc import Sequence

SPACES = (" ", "Ġ", "▁")  # as the text, as byte-level BPE and as SentencePiece have it


class Ordinary:
    """A tokenizer for which the names of special tokens are text. It changes the tokenizer that it is given.

    Args:
        tokenizer: of the `tokenizers` library.
    """

    def __init__(self, tokenizer):
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        unknown = getattr(tokenizer.model, "unk_token", None) or _unknown(tokenizer)  # what the vocabulary lacks becomes it
        self._names = {id: token.content for id, token in added.items() if token.special and token.content != unknown}
        self._forged = frozenset(self._names)

    def text(self, ids: Sequence[int]) -> Sequence[int]:
        """Ids that a text was cut into, without any control token."""
        if self._forged.isdisjoint(ids):
            return ids
        return [part for id in ids for part in (self._spelled(self._names[id]) if id in self._forged else (id,))]

    def _spelled(self, name: str) -> list[int]:
        model = self.tokenizer.model
        return [piece.id for letter in name for piece in next(filter(None, map(model.tokenize, _ways(letter))), [])]


def _ways(letter: str) -> Sequence[str]:
    return SPACES if letter == " " else (letter,)


def _unknown(tokenizer) -> str | None:
    """The unknown token of a Unigram model, which knows it by its number alone."""
    import json

    number = json.loads(tokenizer.to_str())["model"].get("unk_id")
    return tokenizer.id_to_token(number) if number is not None else None
