"""Windows of tokens and strings, from the text that a configuration names."""

from __future__ import annotations

from collections.abc import Iterator

from nemo_plugins.data import documents
from nemo_plugins.data.tokens import Encoder
from nemo_plugins.runs import paths
from nemo_plugins.runs.errors import UserError


def read(sources: list[str], key: str) -> Iterator[str]:
    """The documents of text files, one source after the other.

    Raises:
        UserError: a source holds tokens, not text.
    """
    for source in sources:
        path = paths.resolve(source)
        if not path.exists():
            raise UserError(f"{key}: {source} is no text", f"expected {', '.join(documents.SUFFIXES)} or a folder of them")
        yield from documents.documents(path)


def windows(texts: Iterator[str], tokenizer, count: int, seq_length: int, key: str) -> list[list[int]]:
    """`count` windows of `seq_length` tokens, documents one after the other with the end token between them.

    Args:
        tokenizer: of transformers.
    Raises:
        UserError: the text has not one window.
    """
    tokens: list[int] = []
    for ids in Encoder.of(tokenizer)(texts):
        tokens += ids
        if len(tokens) >= count * seq_length:
            break
    whole = [tokens[at : at + seq_length] for at in range(0, len(tokens) - seq_length + 1, seq_length)][:count]
    if not whole:
        raise UserError(f"{key} holds {len(tokens)} tokens", f"expected at least one window of {seq_length}")
    return whole
