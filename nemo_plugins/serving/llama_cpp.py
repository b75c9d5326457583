"""A GGUF file in llama.cpp (cyllama's build of it): tokens, logits, and tokens drawn one after the other.

Imports no torch: a process that only runs a GGUF file is as small as llama.cpp itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from cyllama.llama import llama_cpp as bindings

from nemo_plugins.runs.errors import UserError

F32 = 0  # ggml_type
NO_FLASH_ATTENTION = 0
MAGIC = b"GGUF"
LOST = "\ufffd"  # what stands where bytes are no character
ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}  # as a header calls them
BYTE = re.compile(r"<0x([0-9A-F]{2})>")

os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # where it aborts, no debugger is started
bindings.disable_logging()
bindings.llama_backend_init()


class _Model(bindings.LlamaModel):
    """cyllama 0.2.18's context asks its model for `n_vocab`, which that does not have."""

    @property
    def n_vocab(self) -> int:
        return self.get_vocab().n_vocab


class LlamaCpp:
    """A loaded model with one context.

    Args:
        path: of the GGUF file.
        context: tokens of a sequence.
        sequences: that are decoded side by side.
        threads: of the CPU.
        exact: attention and its cache in fp32, as transformers computes on a CPU, instead of llama.cpp's defaults (fp16 cache).
    Raises:
        UserError: no GGUF file, or not a whole one.
    """

    def __init__(self, path: Path, *, context: int, sequences: int = 1, threads: int = 1, exact: bool = False):
        with Path(path).open("rb") as file:
            if file.read(4) != MAGIC:
                raise UserError(f"{path} is no GGUF file", "expected what recipes/quantize.py writes")
        model = bindings.LlamaModelParams()
        model.n_gpu_layers = 0
        try:
            self._model = _Model(str(path), model, verbose=False)
        except (ValueError, RuntimeError) as error:
            raise UserError(
                f"{path}: llama.cpp cannot load it ({error})", "expected a whole GGUF file: make it again"
            ) from None
        self._vocab = self._model.get_vocab()
        self.vocab_size: int = self._vocab.n_vocab
        self.context, self.sequences = context, sequences
        asked = bindings.LlamaContextParams()
        asked.n_ctx = context * sequences
        asked.n_batch = asked.n_ubatch = min(context * sequences, 512 * max(1, sequences))
        asked.n_threads = asked.n_threads_batch = threads
        asked.n_seq_max = sequences
        asked.no_perf = True
        if exact:
            asked.type_k = asked.type_v = F32
            asked.flash_attn_type = NO_FLASH_ATTENTION
        self._batch_size = asked.n_batch
        self._context = bindings.LlamaContext(self._model, asked, verbose=False)
        self._batch = bindings.LlamaBatch(n_tokens=self._batch_size, embd=0, n_seq_max=sequences)
        self._held: list[list[int]] = [[] for _ in range(sequences)]  # tokens whose keys and values are in the cache

    @property
    def metadata(self) -> dict[str, str]:
        """Strings and numbers of the file's header, as text."""
        return dict(self._model.metadata())

    @property
    def context_length(self) -> int:
        """Tokens that the model was made for."""
        return self._model.n_ctx_train

    @property
    def has_vocabulary(self) -> bool:
        """False for a file of weights alone: asking such a one for text would end the process."""
        return self.metadata.get("tokenizer.ggml.model", "none") != "none"

    @property
    def adds_space(self) -> bool:
        """Whether llama.cpp puts a space before the text and behind each special token."""
        return self.metadata.get("tokenizer.ggml.add_space_prefix", "true") == "true"

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Tokens of a text, without the model's start; `special`: `<|im_start|>` and the like are one token each."""
        return list(self._vocab.tokenize(text, False, special)) if text else []

    def pieces(self, tokens: Iterable[int]) -> bytes:
        """The text of tokens, as UTF-8, special ones left out: a character may be spread over several."""
        return b"".join(self._piece(token, False) for token in tokens)

    def control_tokens(self) -> dict[str, int]:
        """Ids of the special tokens by name."""
        tokens = (token for token in range(self.vocab_size) if self._vocab.is_control(token))
        return {self._vocab.get_text(token): token for token in tokens}

    def special_tokens(self) -> dict[str, str]:
        """Names of the special tokens that a chat template may call by role, as `special_tokens_map` of transformers."""
        ids = {role: self.metadata.get(f"tokenizer.ggml.{key}_token_id") for role, key in ROLES.items()}
        return {role: self._vocab.get_text(int(number)) for role, number in ids.items() if number is not None}

    def is_end(self, token: int) -> bool:
        """Whether the model ends its turn or its text with this token."""
        return bool(self._vocab.is_eog(token))

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Logits behind each token of one sequence, float32 [tokens, vocab]."""
        self.forget()
        values = np.empty((len(tokens), self.vocab_size), np.float32)
        for start in range(0, len(tokens), self._batch_size):
            part = tokens[start : start + self._batch_size]
            self._decode([(token, start + place, 0, True) for place, token in enumerate(part)])
            for place in range(len(part)):
                values[start + place] = self._context.get_logits_ith(place)
        self.forget()
        return values

    def forget(self) -> None:
        """Empty the cache of every sequence."""
        self._context.memory_seq_rm(-1, -1, -1)
        self._held = [[] for _ in range(self.sequences)]

    def read(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """Read a prompt into each sequence, keeping what of it the cache holds already. Returns where each one's logits are."""
        rows: list[tuple[int, int, int, bool]] = []
        ends: list[int] = []
        for number, prompt in enumerate(prompts):
            held = self._held[number]
            same = next(
                (at for at, (a, b) in enumerate(zip(held, prompt, strict=False)) if a != b), min(len(held), len(prompt))
            )
            same = min(same, len(prompt) - 1)  # the last token is read for its logits
            self._context.memory_seq_rm(number, same, -1)
            rows += [(token, at, number, at == len(prompt) - 1) for at, token in enumerate(prompt) if at >= same]
            ends.append(len(rows) - 1)
            self._held[number] = list(prompt)
        last = 0
        for start in range(0, len(rows), self._batch_size):
            part = rows[start : start + self._batch_size]
            self._decode(part)
            last = start
        return [end - last for end in ends]

    def step(self, tokens: Sequence[int]) -> None:
        """Append a token to each sequence."""
        rows = []
        for number, token in enumerate(tokens):
            rows.append((token, len(self._held[number]), number, True))
            self._held[number].append(token)
        self._decode(rows)

    def draw(self, sampler, at: int) -> int:
        """A token from the logits at a place of the last batch."""
        return sampler.sample(self._context, at)

    def stream(
        self, prompt: Sequence[int], *, new_tokens: int, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0
    ) -> Iterator[int]:
        """Tokens behind a prompt, to the end of the turn (which is not given), greedily at temperature 0."""
        sampler = make_sampler(temperature, top_p, seed)
        [at] = self.read([prompt])
        for _ in range(min(new_tokens, self.context - len(prompt))):
            token = self.draw(sampler, at)
            if self.is_end(token):
                return
            yield token
            self.step([token])
            at = 0

    def close(self) -> None:
        """Give the memory back."""
        self._context.close()
        self._model.close()

    def _decode(self, rows: Sequence[tuple[int, int, int, bool]]) -> None:
        self._batch.clear()
        for token, position, sequence, wanted in rows:
            self._batch.add(token, position, [sequence], wanted)
        self._context.decode(self._batch)

    def _piece(self, token: int, special: bool) -> bytes:
        piece = self._vocab.token_to_piece(token, 0, special)
        if LOST not in piece:
            return piece.encode()
        # cyllama has decoded a part of a character; the vocabulary spells its bytes
        text = self._vocab.get_text(token)
        if byte := BYTE.fullmatch(text):
            return bytes([int(byte[1], 16)])
        return bytes(spelt[letter] for letter in text) if set(text) <= (spelt := byte_letters()).keys() else piece.encode()


@cache
def byte_letters() -> dict[str, int]:
    """The letter that byte-level vocabularies (GPT-2's, Llama 3's) write each byte as."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


def make_sampler(temperature: float, top_p: float, seed: int):
    """llama.cpp's chain of samplers: the likeliest token at temperature 0, else nucleus sampling."""
    sampler = bindings.LlamaSampler()
    if temperature <= 0:
        sampler.add_greedy()
        return sampler
    sampler.add_top_p(top_p, 1)
    sampler.add_temp(temperature)
    sampler.add_dist(seed)
    return sampler
