"""Completions from an OpenAI-compatible server with an export of the weights, on other GPUs or nodes.

Prompts go as token ids, so the template is the trainer's; the answer's ids and log-probabilities are vLLM's (`token_ids`) or
llama.cpp's (`logprobs.content[].id`). What NeMo lacks: it has no rollouts, by a server or otherwise.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from megatron.core import parallel_state
from torch import distributed

from nemo_plugins import runs
from nemo_plugins.alignment.first_rank import on_first_rank
from nemo_plugins.alignment.rollouts import Away, Completion, Request
from nemo_plugins.configs.schema import EndpointConfig

BUSY = (408, 425, 429, 500, 502, 503, 504)  # a server that loads, restarts or has its queue full
PAUSE = 2.0  # seconds between tries
VLLM = "0.16"  # whose workers reload weights from a folder that they are told (vllm-project/vllm, pull request 32133)


class EndpointEngine:
    """Draws from the server's weights, which are `age` updates older than the trained ones.

    Args:
        endpoint: where the server is and how it gets weights.
        folder: gets the weights, as the server reads them.
        ends: tokens that end a completion.
        temperature: of what is drawn from.
        local: an engine with the weights in place, for greedy answers.
        export: writes the weights of this moment as a Hugging Face folder; called by every process.
    """

    on_policy = False

    def __init__(
        self, endpoint: EndpointConfig, folder: Path, ends: Collection[int], temperature: float, local,
        export: Callable[[Path], None],
    ):  # fmt: skip
        self.endpoint = endpoint
        self.folder = folder
        self.ends = sorted(ends)
        self.temperature = temperature
        self.local = local
        self.export = export
        self.age: int | None = None  # None: the server has had nothing of this process yet
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=endpoint.requests)
        self.client = httpx.Client(headers=headers, timeout=endpoint.timeout, limits=limits)

    @property
    def fresh(self) -> bool:
        """Whether the server's weights are the trained ones."""
        return self.age == 0

    def refresh(self, rollout: int, updates: int) -> None:
        """Before a rollout: give the server the weights where they are due, also when a run is resumed.

        Raises:
            Away: the server did not take them.
            runs.Failed: it cannot.
        """
        if self.age is not None and rollout % self.endpoint.refresh_every:
            self.age += updates
            return
        self.export(self.folder)
        on_first_rank(distributed.group.WORLD, lambda: self.hand_over(rollout * updates))
        self.age = 0

    def hand_over(self, step: int) -> None:
        """Let the server load the folder: by the user's command where there is one, else by vLLM's own requests."""
        if self.endpoint.refresh:
            words = shlex.split(self.endpoint.refresh)
            _run([word.replace("{hf}", str(self.folder)).replace("{step}", str(step)) for word in words])
            return
        server = str(self.endpoint.url).rstrip("/").removesuffix("/v1")
        wanted = f"expected vLLM {VLLM} or later, started with VLLM_SERVER_DEV_MODE=1, or grpo.endpoint.refresh"
        reload = {"method": "reload_weights", "kwargs": {"weights_path": str(self.folder)}}
        self._post(f"{server}/collective_rpc", reload, wanted)
        self._post(f"{server}/reset_prefix_cache", {}, wanted)  # of prompts, by the weights before

    def complete(self, requests: Sequence[Request], greedy: bool = False) -> list[Completion]:
        """One completion each, in order. One process of a model asks, the others hear of it.

        Raises:
            Away: no answer within `patience` seconds.
            runs.Failed: an answer without ids and log-probabilities.
        """

        def ask() -> list[Completion]:
            with ThreadPoolExecutor(self.endpoint.requests) as threads:
                return list(threads.map(lambda request: self._one(request, greedy), requests))

        return on_first_rank(parallel_state.get_model_parallel_group(), ask)

    def _one(self, request: Request, greedy: bool) -> Completion:
        body = {
            "model": self.endpoint.model,
            "prompt": list(request.ids),
            "max_tokens": len(request.uniforms),
            "temperature": 0.0 if greedy else self.temperature,
            "top_p": 1.0,  # nothing that the trainer's distribution does not do, whatever the server's defaults are
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "repeat_penalty": 1.0,
            "seed": request.seed % 2**31,
            "logprobs": 1,
            "stop_token_ids": self.ends,
            "return_token_ids": True,
        }
        url = f"{str(self.endpoint.url).rstrip('/')}/completions"
        wanted = "expected a server of completions that takes token ids and tells logprobs"
        return completion(self._post(url, body, wanted), self.ends)

    def _post(self, url: str, body: dict, wanted: str) -> dict:
        """The server's answer, {} where it is empty.

        Raises:
            Away: there is none within `patience` seconds.
            runs.Failed: the server refuses; says what is `wanted`.
        """
        began = time.monotonic()
        while True:
            try:
                answer = self.client.post(url, json=body)
                if answer.status_code == 200:
                    return answer.json() if answer.content else {}
                why = f"{answer.status_code} {answer.text[:300]}"
                if answer.status_code not in BUSY:
                    raise runs.Failed(f"{url}: {why}", wanted)
            except (httpx.TransportError, json.JSONDecodeError) as error:
                why = f"{type(error).__name__}: {error}"
            if time.monotonic() - began > self.endpoint.patience:
                raise Away(f"{url} has not answered for {self.endpoint.patience:g} s ({why})")
            time.sleep(PAUSE)


def _run(words: list[str]) -> None:
    """Run the user's command. Raises Away where it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise Away(f"grpo.endpoint.refresh: {words[0]}: {error}") from None
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
        raise Away(f"grpo.endpoint.refresh: {shlex.join(words[:2])} ended with {done.returncode}: {tail}")


def completion(answer: dict, ends: Collection[int]) -> Completion:
    """What a server's answer holds.

    Raises:
        runs.Failed: no ids, no log-probabilities, or none of the token that ended it.
    """
    try:
        choice = answer["choices"][0]
        said = choice["logprobs"]
        if "content" in said:  # llama.cpp
            ids, logp = ([one[name] for one in said["content"]] for name in ("id", "logprob"))
        else:  # vLLM
            ids, logp = choice["token_ids"], said["token_logprobs"]
        ended = choice["finish_reason"] == "stop"
        found = Completion([int(i) for i in ids], [float(x) for x in logp], [], ended)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise runs.Failed(
            f"the server's answer cannot be used ({type(error).__name__}: {error}): {json.dumps(answer)[:300]}",
            "expected /v1/completions of vLLM 0.10.2 or later, or of llama.cpp, with ids and logprobs of what was drawn",
        ) from None
    if len(found.ids) != len(found.logp) or not found.ids or (ended and found.ids[-1] not in ends):
        raise runs.Failed(
            f"the server told {len(found.ids)} tokens and {len(found.logp)} log-probabilities, the last token "
            f"{found.ids[-1] if found.ids else 'none'}, and that it {'ended' if ended else 'was cut off'}",
            f"expected as many of both, and where it ended one of the end tokens {list(ends)} as the last",
        )
    return found
