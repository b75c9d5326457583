"""From messages to tokens by the tokenizer's own chat template, held against transformers.

template = ChatTemplate(tokenizer)
template.ids(messages, add_generation_prompt=True)      what `apply_chat_template` gives
template.encode(dialogues)                              with the ranges that an assistant learns
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from nemo_plugins.data.chat.rows import Fault
from nemo_plugins.data.chat.sections import Encoded, Sections
from nemo_plugins.data.chat.text_template import PROBES, Messages, TextTemplate
from nemo_plugins.data.spelling import spelled
from nemo_plugins.runs.errors import UserError

SYSTEM = {"role": "system", "content": "Odpowiadaj krótko."}


class ChatTemplate:
    """Writes dialogues as a tokenizer's chat template does.

    Args:
        tokenizer: a fast tokenizer of transformers.
        vocab_size: rows of the model's embedding, where known.

    Attributes:
        text: the template as text.
        end: id of the token that ends an assistant's turn.
        ends: ids that stop an answer: `end` and the tokenizer's EOS.
        pad: an id for positions that hold nothing.
        fingerprint: of all that decides which ids a dialogue gets.

    Raises:
        UserError: turns cannot be learnt from the template, a special token of it is beyond the embedding, or its tokens are
            not those of transformers.
    """

    def __init__(self, tokenizer, vocab_size: int | None = None):
        self.text = TextTemplate.of(tokenizer)
        self.text.check()
        self._sections = Sections(tokenizer)
        self.end: int = tokenizer.convert_tokens_to_ids(self.text.end)
        self.ends = frozenset({self.end, tokenizer.eos_token_id} - {None})
        self.pad: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
        content = f"{tokenizer.backend_tokenizer.to_str()} {self.text.source} {sorted(self.text.special.items())}"
        self.fingerprint = hashlib.sha256(content.encode()).hexdigest()[:16]
        _compare(self, tokenizer, vocab_size)

    def encode(self, dialogues: Iterable[Messages]) -> list[Encoded]:
        """The tokens of several dialogues, and which of them are learned. Raises Fault, as `TextTemplate.learned`."""
        return self._sections.encode(map(self.text.learned, dialogues))

    def prompts(self, dialogues: Iterable[Messages]) -> list[list[int]]:
        """The tokens of several dialogues up to where the assistant answers. Raises Fault, as `TextTemplate.render`."""
        rendered = [self.text.render(messages, add_generation_prompt=True) for messages in dialogues]
        return [encoded.ids for encoded in self._sections.encode(rendered)]

    def ids(self, messages: Messages, add_generation_prompt: bool = False) -> list[int]:
        """One dialogue's tokens, as `apply_chat_template` names its arguments."""
        [encoded] = self._sections.encode([self.text.render(messages, add_generation_prompt)])
        return encoded.ids


def _compare(template: ChatTemplate, tokenizer, vocab_size: int | None) -> None:
    """Hold our tokens against those of transformers, and the special ones of the template against the embedding.

    Raises:
        UserError: they differ, or an id is beyond the embedding.
    """
    control = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    for probe in [*PROBES, *([SYSTEM, *probe] for probe in PROBES)]:
        for prompt in (False, True):
            try:
                got = template.ids(probe, add_generation_prompt=prompt)
            except Fault:  # a template need not know system turns
                continue
            wanted = tokenizer.apply_chat_template(probe, add_generation_prompt=prompt)
            if got != wanted:
                pairs = enumerate(zip(got, wanted, strict=False))
                at = next((place for place, (ours, theirs) in pairs if ours != theirs), min(len(got), len(wanted)))
                ours, theirs = (spelled(tokenizer, ids[at : at + 8]) for ids in (got, wanted))
                raise UserError(
                    f"tokenizer: at token {at} of a dialogue transformers has {theirs}, this recipe {ours}",
                    "expected the same; special tokens that take the spaces beside them are not supported",
                )
            for number in control.intersection(got):
                if vocab_size is not None and number >= vocab_size:
                    [name] = spelled(tokenizer, [number])
                    raise UserError(
                        f"tokenizer: {name} is token {number}, the model has {vocab_size}", "expected a model with that row"
                    )
