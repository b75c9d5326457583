"""An OpenAI-compatible server: vLLM's, llama.cpp's. Plain HTTP of the standard library, answers as they stream."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence

from nemo_plugins.runs.errors import UserError

TIMEOUT = 600.0  # seconds without a word
PREFIX, END = "data: ", "[DONE]"


class Endpoint:
    """One model of a server.

    Args:
        url: up to `/v1`.
        model: its name there.
    """

    def __init__(self, url: str, model: str = "default"):
        self.url, self.model = url.rstrip("/"), model

    def complete(self, prompt: str, *, new_tokens: int, temperature: float, forced: bool = False) -> Iterator[str]:
        """Go on with a text; `forced`: past the end of a turn, for servers that know `ignore_eos`."""
        for choice in self._stream(
            "/completions", prompt=prompt, max_tokens=new_tokens, temperature=temperature, ignore_eos=forced
        ):
            yield choice.get("text") or ""

    def chat(self, messages: Sequence[dict[str, str]], *, new_tokens: int, temperature: float, top_p: float) -> Iterator[str]:
        """Answer a dialogue."""
        asked = {"messages": list(messages), "max_tokens": new_tokens, "temperature": temperature, "top_p": top_p}
        for choice in self._stream("/chat/completions", **asked):
            if text := (choice.get("delta") or {}).get("content"):
                yield text

    def _stream(self, path: str, **asked: object) -> Iterator[dict]:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        body = json.dumps({"model": self.model, "stream": True, **asked}).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, body, headers), timeout=TIMEOUT) as answer:
                for line in answer:
                    text = line.decode().strip()
                    if text.startswith(PREFIX) and text != PREFIX + END:
                        choices = json.loads(text.removeprefix(PREFIX)).get("choices") or []
                        yield from choices[:1]
        except urllib.error.HTTPError as error:
            raise UserError(f"{self.url}{path}: {error}: {error.read(400).decode(errors='replace')}") from None
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise UserError(f"{self.url}: no answer ({error})", "expected a running OpenAI-compatible server") from None
