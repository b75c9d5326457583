"""Tokens as the text that they stand for, in messages to people."""

from __future__ import annotations

from collections.abc import Sequence


def spelled(tokenizer, ids: Sequence[int]) -> list[str]:
    """The text of each token with its leading space, of a tokenizer of transformers: `" Zażółć"`, not `"ĠZaÅ¼Ã³ÅĤÄĩ"`."""
    return [_decoded(tokenizer, [id, id])[len(_decoded(tokenizer, [id])) :] for id in ids]


def _decoded(tokenizer, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)  # a text's first token may lose its space
