"""Time of a training step of `tiny_pl` on a CPU: attention by torch beside Megatron's own, in turn in one process.

    python benchmarks/attention_speed.py
    python benchmarks/attention_speed.py --length 256 --sequences 8 --repeats 7

Forward and backward pass in fp32 on one thread, seconds of its processor; the ratio is that of each pair, its median and range.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    from nemo_plugins import platforms

    platforms.prepare()
    import attention_model
    import torch

    torch.set_num_threads(1)
    model, shape = attention_model.load()
    tokens = torch.randint(shape.vocab_size, (asked.sequences, asked.length + 1))

    def seconds(attention: str) -> float:
        mask = attention_model.attend(attention, asked.length)
        began = time.process_time()
        attention_model.loss(model, tokens, mask).backward()
        return time.process_time() - began

    for attention in attention_model.ATTENTIONS:  # warm
        seconds(attention)
    pairs = [{attention: seconds(attention) for attention in attention_model.ATTENTIONS} for _ in range(asked.repeats)]
    ratios = [pair["torch"] / pair["megatron"] for pair in pairs]
    for attention in attention_model.ATTENTIONS:
        print(f"{attention:9}{statistics.median(pair[attention] for pair in pairs):.3f} s a step")
    print(f"ratio    {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
