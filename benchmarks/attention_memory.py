"""Memory of a training step by the length of its sequence: attention by torch, and Megatron's own, which keeps its scores.

    python benchmarks/attention_memory.py
    python benchmarks/attention_memory.py --lengths 1024 2048 --layers 2

A model of two layers on a CPU, one sequence, fp32; each length in a process of its own. The figure is the largest resident size
of the step above that before it. The vocabulary is small, so that logits do not matter.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SIZES = {"hidden_size": 256, "ffn_hidden_size": 512, "num_attention_heads": 8, "num_query_groups": 4, "head_dim": 32}
ATTENTIONS = ("torch", "megatron")


def step(length: int, layers: int, attention: str) -> int:
    """Bytes that a step takes at most, in this process."""
    import attention_model
    import torch

    from nemo_plugins import runs

    sizes = {**SIZES, "num_layers": layers, "vocab_size": 512, "context_length": length}
    mask = attention_model.attend(attention, length)
    model, shape = attention_model.load(*(f"model.{key}={value}" for key, value in sizes.items()))
    tokens = torch.randint(shape.vocab_size, (1, length + 1))
    before = runs.peak_memory_bytes()
    attention_model.loss(model, tokens, mask).backward()
    return runs.peak_memory_bytes() - before


def in_a_fork(job: Callable[[], int]) -> int:
    """What a job returns in a process of its own."""
    source, sink = os.pipe()
    if not os.fork():
        os.write(sink, str(job()).encode())
        os._exit(0)
    os.close(sink)
    with open(source) as file:
        said = file.read()
    os.wait()
    return int(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--longest", type=int, default=4096, help="that Megatron's own attention is given")
    asked = parser.parse_args()
    from nemo_plugins import platforms

    platforms.prepare()  # NeMo is imported once
    import torch

    torch.set_num_threads(1)
    print("| tokens | torch's attention, MiB | to the length before | Megatron's own, MiB | to the length before |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    before: dict[str, int] = {}
    for length in asked.lengths:
        cells = [f"{length:,}"]
        for attention in ATTENTIONS:
            if attention == "megatron" and length > asked.longest:
                cells += ["", ""]
                continue
            size = in_a_fork(lambda length=length, attention=attention: step(length, asked.layers, attention))
            cells += [f"{size / 2**20:,.0f}", f"{size / before[attention]:.2f}" if attention in before else ""]
            before[attention] = size
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
