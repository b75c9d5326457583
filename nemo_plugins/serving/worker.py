"""One model in a process of its own, timed on request: its memory is its own, and two models can take turns.

    python -m nemo_plugins.serving.worker '{"backend": "llama_cpp", "path": …}'

A request is a line of JSON on stdin, `{"sequences": 2, "prompt_tokens": 128, "new_tokens": 64}`; the answer one on stdout.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

WORDS = "Aby otworzyć okno dialogowe, wybierz polecenie z menu. Następnie kliknij przycisk i wpisz nazwę pliku. "


class LlamaCppTimed:
    """llama.cpp with its defaults: fp16 cache, flash attention where it pays."""

    def __init__(self, path: str, context: int, sequences: int, threads: int):
        from nemo_plugins.serving.llama_cpp import LlamaCpp, make_sampler

        self.model = LlamaCpp(Path(path), context=context, sequences=sequences, threads=threads)
        self.sampler = make_sampler(0.0, 1.0, 0)

    def answer(self, sequences: int, prompt_tokens: int, new_tokens: int) -> list[float]:
        """Answer as many prompts side by side, whatever tokens come.

        Returns: the clock (seconds) at the start and behind each new token of all sequences.
        """
        self.model.forget()
        if self.model.has_vocabulary:
            tokens = self.model.tokenize(WORDS * (1 + (prompt_tokens + sequences) // 8))
        else:  # random weights
            tokens = [3 + place % (self.model.vocab_size - 3) for place in range(prompt_tokens + sequences)]
        prompts = [tokens[number : number + prompt_tokens] for number in range(sequences)]
        clock = [time.perf_counter()]
        places = self.model.read(prompts)
        for _ in range(new_tokens):
            drawn = [self.model.draw(self.sampler, place) for place in places]
            clock.append(time.perf_counter())
            if len(clock) <= new_tokens:
                self.model.step(drawn)
                places = list(range(sequences))
        return clock


class TransformersTimed:
    """transformers, eager, with a cache of keys and values, in the type that is asked for."""

    def __init__(self, path: str, context: int, sequences: int, threads: int, dtype: str):
        import torch

        from nemo_plugins.models import hf_model

        torch.set_num_threads(threads)
        self.torch, self.device = torch, "cuda" if torch.cuda.is_available() else "cpu"
        self.model = hf_model.load(path, getattr(torch, dtype)).to(self.device)
        self.tokens = hf_model.tokenizer(path)(WORDS * (1 + context // 8))["input_ids"]

    def answer(self, sequences: int, prompt_tokens: int, new_tokens: int) -> list[float]:
        torch = self.torch
        prompts = [self.tokens[number : number + prompt_tokens] for number in range(sequences)]
        with torch.inference_mode():
            clock, cache, ids = [time.perf_counter()], None, torch.tensor(prompts, device=self.device)
            for _ in range(new_tokens):
                out = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
                if self.device == "cuda":
                    torch.cuda.synchronize()
                clock.append(time.perf_counter())
        return clock


class EndpointTimed:
    """A server, over HTTP: what arrives, when it arrives. Tokens are counted by the pieces of the stream."""

    def __init__(self, path: str, context: int, sequences: int, threads: int, model: str = "default"):
        from nemo_plugins.serving.endpoint import Endpoint

        self.server = Endpoint(path, model)

    def answer(self, sequences: int, prompt_tokens: int, new_tokens: int) -> list[float]:
        from concurrent.futures import ThreadPoolExecutor

        words = (WORDS * (1 + prompt_tokens // 16)).split(" ")
        start = time.perf_counter()

        def one(number: int) -> list[float]:
            # a token of Polish is about half a word; each stream begins otherwise, so that no cache of prompts serves it
            prompt = " ".join([str(time.time_ns()), *words[number : number + prompt_tokens // 2]])
            return [
                time.perf_counter() for _ in self.server.complete(prompt, new_tokens=new_tokens, temperature=0.0, forced=True)
            ]

        with ThreadPoolExecutor(sequences) as pool:
            streams = list(pool.map(one, range(sequences)))
        shortest = min(map(len, streams))
        return [start, *(max(stream[at] for stream in streams) for at in range(shortest))]


BACKENDS = {"llama_cpp": LlamaCppTimed, "transformers": TransformersTimed, "endpoint": EndpointTimed}


def peak_bytes() -> dict[str, int]:
    """Largest resident size of this process, and on a GPU what torch held there."""
    lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").is_file() else []
    peaks = {"host": 1024 * int(next((line.split()[1] for line in lines if line.startswith("VmHWM:")), 0))}
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        peaks["gpu"] = torch.cuda.max_memory_allocated()
    return peaks


def main() -> None:
    out = sys.stdout
    sys.stdout = sys.stderr  # whatever a library says is no answer
    asked: dict[str, Any] = json.loads(sys.argv[1])
    try:
        model = BACKENDS[asked.pop("backend")](**asked)
    except Exception as error:  # told to the parent, which says it in one message
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=out, flush=True)
        return
    print(json.dumps({"peak_bytes": peak_bytes()}), file=out, flush=True)
    for line in sys.stdin:
        try:
            clock = model.answer(**json.loads(line))
            answer = {"clock": clock, "peak_bytes": peak_bytes()}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
