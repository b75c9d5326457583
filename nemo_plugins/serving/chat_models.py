"""Models that answer a dialogue, word by word: the same interface over transformers, llama.cpp and a server."""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nemo_plugins.configs.schema import ChatSource
from nemo_plugins.data.chat.text_template import CHATML, TextTemplate, without
from nemo_plugins.runs.errors import UserError

Messages = Sequence[dict[str, str]]
LOST = "\ufffd"
LONGEST = 8192  # tokens of context where none are asked for


@dataclass(frozen=True)
class DecodingOptions:
    """How answers are drawn: at most so many tokens, greedily at temperature 0."""

    new_tokens: int
    temperature: float
    top_p: float
    seed: int = 0


class ChatModel(Protocol):
    """A model in a dialogue."""

    name: str

    def room(self, messages: Messages) -> int | None:
        """Tokens of the context that are left behind the messages; None: not known."""

    def say(self, messages: Messages, options: DecodingOptions) -> Iterator[str]:
        """The answer, a piece of text a token; an empty piece is a part of a character."""


class LlamaCppChatModel:
    """A GGUF file in llama.cpp. What the cache holds of the dialogue is not read again."""

    def __init__(self, path: Path, context: int | None, threads: int, source: ChatSource = ChatSource.own):
        from nemo_plugins.serving.llama_cpp import LlamaCpp

        self.name = path.name
        model = LlamaCpp(path, context=context or LONGEST, threads=threads)
        if context is None and model.context_length < LONGEST:
            longest = model.context_length
            model.close()
            model = LlamaCpp(path, context=longest, threads=threads)
        self.model = model
        own = CHATML if source is ChatSource.chatml else model.metadata.get("tokenizer.chat_template")
        if not own:
            raise without(path)
        self.control = model.control_tokens()
        self.template = TextTemplate(own, model.special_tokens(), self.control, str(path))
        self.ends = {self.control[name] for name in ends(self.template)}

    def ids(self, messages: Messages) -> list[int]:
        """Tokens of the dialogue and the assistant's turn begun; no text of a message becomes a control token."""
        tokens: list[int] = []
        for text, control in self.template.asked(messages).parts:
            tokens += [self.control[text]] if control else self.model.tokenize(text, special=False)
        return tokens

    def room(self, messages: Messages) -> int:
        return self.model.context - len(self.ids(messages))

    def say(self, messages: Messages, options: DecodingOptions) -> Iterator[str]:
        drawn = self.model.stream(
            self.ids(messages),
            new_tokens=options.new_tokens,
            temperature=options.temperature,
            top_p=options.top_p,
            seed=options.seed,
        )
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in drawn:
            if token in self.ends:
                break
            yield decoder.decode(self.model.pieces([token]))
        yield decoder.decode(b"", final=True)


class TransformersChatModel:
    """A Hugging Face folder in transformers, in its own type on a GPU and in fp32 on a CPU."""

    def __init__(self, folder: Path, context: int | None, threads: int, source: ChatSource = ChatSource.own):
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about packages that it finds
        import torch

        from nemo_plugins.data.chat.sections import Sections
        from nemo_plugins.models import hf_model

        torch.set_num_threads(threads)
        self.torch = torch
        self.name = f"{folder.parent.parent.name}/{folder.parent.name}" if folder.name == "hf" else folder.name
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = hf_model.tokenizer(folder)
        self.model = hf_model.load(folder, "auto" if self.device == "cuda" else torch.float32).to(self.device)
        if source is ChatSource.chatml:
            self.tokenizer.chat_template = CHATML
        self.template, self.sections = TextTemplate.of(self.tokenizer), Sections(self.tokenizer)
        self.context = context or min(LONGEST, self.model.config.max_position_embeddings)
        said = self.model.generation_config.eos_token_id
        self.ends = {*(said if isinstance(said, list) else [said, self.tokenizer.eos_token_id])}
        self.ends |= set(self.tokenizer.convert_tokens_to_ids(ends(self.template)))

    def ids(self, messages: Messages) -> list[int]:
        """Tokens of the dialogue up to where the assistant answers; no text of a message becomes a control token."""
        [encoded] = self.sections.encode([self.template.asked(messages)])
        return encoded.ids

    def room(self, messages: Messages) -> int:
        return self.context - len(self.ids(messages))

    def say(self, messages: Messages, options: DecodingOptions) -> Iterator[str]:
        prompt = self.ids(messages)
        shown, drawn = "", []
        for token in self._draw(prompt, options):
            drawn.append(token)
            text = self.tokenizer.decode(drawn, skip_special_tokens=True)
            if text.endswith(LOST):  # a part of a character
                yield ""
                continue
            yield text[len(shown) :]
            shown = text

    def _draw(self, prompt: list[int], options: DecodingOptions) -> Iterator[int]:
        torch = self.torch
        chance = torch.Generator(self.device).manual_seed(options.seed)
        with torch.inference_mode():
            cache, ids = None, torch.tensor([prompt], device=self.device)
            for _ in range(min(options.new_tokens, self.context - len(prompt))):
                out = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache, logits = out.past_key_values, out.logits[0, -1].float()
                token = int(logits.argmax()) if options.temperature <= 0 else self._sample(logits, options, chance)
                if token in self.ends:
                    return
                yield token
                ids = torch.tensor([[token]], device=self.device)

    def _sample(self, logits, options: DecodingOptions, chance) -> int:
        """Nucleus sampling: the likeliest tokens that together have `top_p`."""
        chances, order = (logits / options.temperature).softmax(-1).sort(descending=True)
        chances = chances.masked_fill(chances.cumsum(-1) - chances >= options.top_p, 0.0)
        return int(order[self.torch.multinomial(chances, 1, generator=chance)])


class EndpointChatModel:
    """A model behind an OpenAI-compatible server."""

    def __init__(self, url: str):
        from nemo_plugins.serving.endpoint import Endpoint

        self.name, self.server = url, Endpoint(url)

    def room(self, messages: Messages) -> None:
        return None

    def say(self, messages: Messages, options: DecodingOptions) -> Iterator[str]:
        return self.server.chat(
            list(messages), new_tokens=options.new_tokens, temperature=options.temperature, top_p=options.top_p
        )


def ends(template: TextTemplate) -> list[str]:
    """What ends a turn beside the model's own ends, as far as the template says it."""
    try:
        return [template.end]
    except UserError:
        return []


def open_chat_model(where: str, context: int | None, threads: int, source: ChatSource) -> ChatModel:
    """What answers at a place that `chat_plan.locate` found. Raises UserError."""
    if where.startswith(("http://", "https://")):
        return EndpointChatModel(where)
    path = Path(where)
    kind = LlamaCppChatModel if path.is_file() else TransformersChatModel
    return kind(path, context, threads, source)


def fitting(messages: Messages, chat_model: ChatModel, wanted: int) -> tuple[list[dict[str, str]], int]:
    """The dialogue without its oldest turns where the context has no room for an answer, and how many turns went.

    Raises:
        UserError: not even the last message fits.
    """
    kept = list(messages)
    first = 1 if kept and kept[0]["role"] == "system" else 0
    while (room := chat_model.room(kept)) is not None and room < min(wanted, 16):
        if len(kept) - first <= 1:
            raise UserError("this message is longer than the context", "shorten it, or raise chat.context")
        del kept[first : first + 2]  # a question with its answer
    return kept, len(messages) - len(kept)


def text_of(pieces: Iterable[str]) -> str:
    """The whole answer."""
    return "".join(pieces)
