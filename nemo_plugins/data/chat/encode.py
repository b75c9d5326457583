"""Dialogues to token ids and the mask of what is learned: the assistant's words and the token that ends its turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from nemo_plugins.data.batches import batches
from nemo_plugins.data.chat.messages import BATCH, Chat
from nemo_plugins.data.chat.sections import Encoded
from nemo_plugins.data.chat.template import ChatTemplate
from nemo_plugins.runs.errors import UserError

LEARN = ("every", "last")


@dataclass(frozen=True)
class Sample:
    """One dialogue of t tokens.

    Attributes:
        ids: token ids, int32 [t].
        learned: true for the tokens that the loss counts, bool [t]. Never the first: nothing predicts it.
        weight: of the sample in the loss.
        where: `file:line`.
    """

    ids: np.ndarray
    learned: np.ndarray
    weight: float = 1.0
    where: str = ""

    @property
    def positions(self) -> int:
        """Places that the sample takes in a window: its last token is only ever a label, t - 1."""
        return len(self.ids) - 1


def encode(chats: Iterable[Chat], template: ChatTemplate, learn: str = "every") -> Iterator[Sample]:
    """Samples of dialogues, in their order.

    Args:
        learn: "every" assistant turn, or only the "last".
    Raises:
        UserError: another `learn`.
    """
    if learn not in LEARN:
        raise UserError(f"learn: {learn!r}", f"expected one of {', '.join(LEARN)}")
    for batch in batches(chats, BATCH):
        for chat, encoded in zip(batch, template.encode(chat.messages for chat in batch), strict=True):
            yield sample(encoded, learn, chat.weight, chat.where)


def sample(encoded: Encoded, learn: str, weight: float = 1.0, where: str = "") -> Sample:
    """One dialogue with its mask."""
    learned = np.zeros(len(encoded.ids), bool)
    for begin, end in encoded.learned if learn == "every" else encoded.learned[-1:]:
        learned[begin:end] = True
    return Sample(np.array(encoded.ids, np.int32), learned, weight, where)
