"""What a `tokenizer.json` holds, and which tokens of two tokenizers stand for the same text. Imports no library."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_plugins.runs.errors import UserError

ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")
BYTE = re.compile("<0x([0-7][0-9A-F])>")  # of ASCII, as SentencePiece spells it
CHAT_ROLES = "additional_special_tokens"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens of a tokenizer.

    Attributes:
        texts: by id, what a token stands for, alike for every kind of tokenizer: the text with its leading space, `<0xC5>` for
            a byte that is no character by itself; None where no token has the id.
        special: ids of the special tokens (BOS, ChatML's …) by what they are written as.
        roles: what is written for `bos_token`, `eos_token`, `unk_token`, `pad_token`, of those that there are.
    """

    texts: list[str | None]
    special: dict[str, int]
    roles: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return len(self.texts)

    def id_of(self, role: str) -> int | None:
        """Id of a role's token; None where there is none."""
        return self.special.get(self.roles.get(role, ""))


def read(folder: Path, key: str) -> Vocabulary:
    """The vocabulary of a folder with `tokenizer.json` and `tokenizer_config.json`.

    Raises:
        UserError: naming `key`: no such folder or files, or none that can be read.
    """
    file, described = folder / "tokenizer.json", folder / "tokenizer_config.json"
    for one in (file, described):
        if not one.is_file():
            raise UserError(f"{key}: {folder} has no {one.name}", "expected the folder of a fast Hugging Face tokenizer")
    try:
        definition, config = json.loads(file.read_bytes()), json.loads(described.read_bytes())
        pieces = _pieces(definition["model"]["vocab"])
        added = {token["content"]: token for token in definition.get("added_tokens") or []}
        special = {content: token["id"] for content, token in added.items() if token["special"]}
        byte_level = "ByteLevel" in _types(definition.get("pre_tokenizer")) | _types(definition.get("decoder"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{key}: {file} cannot be read ({type(error).__name__}: {error})", "make the tokenizer again") from None
    texts: list[str | None] = [None] * (1 + max([*pieces.values(), *(token["id"] for token in added.values())]))
    for piece, number in pieces.items():
        texts[number] = _byte_level(piece) if byte_level else piece.replace("▁", " ")
    for content, token in added.items():
        texts[token["id"]] = content
    named = {role: _content(config.get(role)) for role in ROLES}
    roles = {role: content for role, content in named.items() if content in special}
    return Vocabulary(texts, special, roles)


def shared(new: Vocabulary, old: Vocabulary) -> dict[int, int]:
    """Ids of `old` by the ids of `new` that stand for the same.

    Text by text, a byte that is a character by itself in either spelling where the other vocabulary has not the same one;
    special tokens by name, then by their role.
    """
    of_special = set(old.special.values())
    by_text = {text: number for number, text in enumerate(old.texts) if text is not None and number not in of_special}
    pairs, characters = {}, {text for text in new.texts if text and len(text) == 1}
    for number, text in enumerate(new.texts):
        if text in by_text:
            pairs[number] = by_text[text]
        elif text is not None and (other := other_spelling(text)) in by_text and other not in characters:
            pairs[number] = by_text[other]
    for content, number in new.special.items():
        pairs.pop(number, None)
        if content in old.special:
            pairs[number] = old.special[content]
    for role in ROLES:
        mine, theirs = new.id_of(role), old.id_of(role)
        if mine is not None and theirs is not None:
            pairs.setdefault(mine, theirs)
    return pairs


def other_spelling(text: str) -> str | None:
    """`<0x0A>` for a newline and the reverse, alike for every byte of ASCII; None for any other text."""
    if len(text) == 1 and text.isascii():
        return f"<0x{ord(text):02X}>"
    if byte := BYTE.fullmatch(text):
        return chr(int(byte[1], 16))
    return None


def _pieces(vocabulary: Any) -> dict[str, int]:
    """Ids by piece: of BPE a dictionary, of Unigram a list of pieces with their scores."""
    return dict(vocabulary) if isinstance(vocabulary, dict) else {piece: number for number, (piece, _) in enumerate(vocabulary)}


def _types(part: Any) -> set[str]:
    """Types that a part of a `tokenizer.json` is made of."""
    if not isinstance(part, dict):
        return set()
    inner = [*(part.get("pretokenizers") or []), *(part.get("decoders") or [])]
    return {part.get("type", "")}.union(*map(_types, inner))


def _content(token: Any) -> str:
    return token.get("content", "") if isinstance(token, dict) else token or ""


def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable Latin-1 as it is, the others as characters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [number for number in range(256) if number not in printable]
    return {chr(number): number for number in printable} | {chr(256 + rank): number for rank, number in enumerate(others)}


BYTES = _bytes_of_characters()


def _byte_level(piece: str) -> str:
    """Text of a byte-level piece; one that is no whole text keeps its bytes, `<0xC5><0x82>`."""
    if not all(character in BYTES for character in piece):
        return piece
    values = bytes(BYTES[character] for character in piece)
    try:
        return values.decode()
    except UnicodeDecodeError:
        return "".join(f"<0x{value:02X}>" for value in values)
