"""`recipes/chat.py`: a dialogue in the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from nemo_plugins import runs
from nemo_plugins.configs.schema import Recipe
from nemo_plugins.planning import chat_plan
from nemo_plugins.platforms import environment
from nemo_plugins.runs import output
from nemo_plugins.serving import chat_models
from nemo_plugins.serving.chat_models import ChatModel, DecodingOptions

PROMPT = "> "
HELP = """/regenerate   another answer to the last message
/compare      the last message answered by both models, side by side
/reset        forget the dialogue
/system TEXT  another system prompt, and forget the dialogue
/exit         or Ctrl-D"""


class Dialogue:
    """Messages so far and the models that answer them.

    Args:
        cfg: the configuration; the second model is only loaded when it is asked for.
    """

    def __init__(self, cfg: Recipe):
        self.cfg = cfg
        self.system = chat_plan.system(cfg)
        self.seed = cfg.run.seed
        self.chat_model = self._open(chat_plan.model(cfg))
        self._other: ChatModel | None = None
        self.turns: list[dict[str, str]] = []

    @property
    def other(self) -> ChatModel:
        if self._other is None:
            self._other = self._open(chat_plan.other(self.cfg))
        return self._other

    @property
    def messages(self) -> list[dict[str, str]]:
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.turns]

    def ask(self, text: str) -> None:
        """Answer a message, streaming."""
        self.turns.append({"role": "user", "content": text})
        try:
            self._answer()
        except runs.UserError:
            self.turns.pop()
            raise

    def regenerate(self) -> None:
        """Answer the last message again, by another draw."""
        if not self.turns:
            output.say("nothing to answer yet")
            return
        if self.turns[-1]["role"] == "assistant":
            self.turns.pop()
        self.seed += 1
        self._answer()

    def compare(self) -> None:
        """The last message answered by both models, side by side; the dialogue stays as it is."""
        asked = self.messages[:-1] if self.turns and self.turns[-1]["role"] == "assistant" else self.messages
        if not self.turns:
            output.say("nothing to answer yet")
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(expand=True)
        answers = []
        for chat_model in (self.other, self.chat_model):
            text, said = self._said(chat_model, asked)
            table.add_column(Text(chat_model.name), ratio=1, overflow="fold")
            answers.append(Text(f"{text.strip()}\n\n{said}"))
        table.add_row(*answers)
        output.console().print(table)

    def _answer(self) -> None:
        kept, gone = chat_models.fitting(self.messages, self.chat_model, self.cfg.chat.new_tokens)
        if gone:
            output.say(f"[the context is full: without the first {gone} messages]")
        pieces, began = [], time.perf_counter()
        try:
            for piece in self.chat_model.say(kept, self._options()):
                pieces.append((piece, time.perf_counter()))
                print(piece, end="", flush=True, file=output.stream(1))
        except KeyboardInterrupt:  # what was said so far stays
            print(" …", end="", file=output.stream(1))
        output.say(f"\n[{speed(began, [at for _, at in pieces])}]")
        self.turns.append({"role": "assistant", "content": chat_models.text_of(piece for piece, _ in pieces)})

    def _said(self, chat_model: ChatModel, messages: list[dict[str, str]]) -> tuple[str, str]:
        kept, _ = chat_models.fitting(messages, chat_model, self.cfg.chat.new_tokens)
        pieces, began, clock = [], time.perf_counter(), []
        for piece in chat_model.say(kept, self._options()):
            pieces.append(piece)
            clock.append(time.perf_counter())
        return chat_models.text_of(pieces), speed(began, clock)

    def _options(self) -> DecodingOptions:
        chat = self.cfg.chat
        return DecodingOptions(chat.new_tokens, chat.temperature, chat.top_p, self.seed)

    def _open(self, where: str) -> ChatModel:
        output.say(f"loading {where}")
        return chat_models.open_chat_model(where, self.cfg.chat.context, runs.threads(self.cfg), self.cfg.chat.template)


def speed(began: float, clock: list[float]) -> str:
    """`34 tokens, 120.5 tokens/s, the first after 15 ms`."""
    if not clock:
        return "no tokens"
    rate = f"{(len(clock) - 1) / (clock[-1] - clock[0]):,.1f} tokens/s, " if len(clock) > 1 and clock[-1] > clock[0] else ""
    return f"{len(clock)} tokens, {rate}the first after {1e3 * (clock[0] - began):,.0f} ms"


def run(cfg: Recipe) -> None:
    """Read lines until the end of input."""
    environment.prepare(cfg.platform, uses_nemo=False)
    dialogue = Dialogue(cfg)
    output.say(f"{dialogue.chat_model.name}; /help says what there is")
    for line in lines():
        command, _, rest = line.partition(" ")
        try:
            if command in ("/exit", "/quit"):
                return
            if command == "/help":
                output.say(HELP)
            elif command == "/regenerate":
                dialogue.regenerate()
            elif command == "/compare":
                dialogue.compare()
            elif command in ("/reset", "/system"):
                dialogue.turns.clear()
                dialogue.system = rest if command == "/system" else dialogue.system
            elif command.startswith("/"):
                output.say(f"no command {command}\n{HELP}")
            elif line:
                dialogue.ask(line)
        except runs.UserError as error:  # the dialogue goes on
            output.error(f"chat: {error}")


def lines() -> Iterator[str]:
    """What is typed; the end of input, or Ctrl-C where nothing is being said, ends it."""
    terminal = sys.stdin.isatty()
    while True:
        try:
            text = input(PROMPT) if terminal else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            return
        if not text and not terminal:
            return
        yield text.strip()
