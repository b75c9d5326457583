"""Time of a training step of `tiny_pl` on a CPU: attention by torch beside Megatron's own, in turn in one process.

    python benchmarks/attention_speed.py
    python benchmarks/attention_speed.py --length 256 --sequences 8 --repeats 7

Forward and backward pass in fp32 on one thread, seconds of its processor; the ratio is that of each pair, its median and range.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    from nemo_plugins import platforms, runs

    platforms.prepare()
    import torch
    from megatron.core import parallel_state
    from megatron.core.transformer.dot_product_attention import DotProductAttention

    from nemo_plugins.models import nemo
    from nemo_plugins.platforms.attention import megatrons
    from nemo_plugins.runs.prepare import compose

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tempfile.mktemp()}", rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    cfg = compose(["+model=tiny_pl"])
    config = nemo.config(cfg.model, runs.architecture(cfg.model), torch.float32)
    config.use_cpu_initialization = True
    model = config.configure_model(None)
    tokens = torch.randint(cfg.model.vocab_size, (asked.sequences, asked.length + 1))
    places = torch.arange(asked.length).expand(asked.sequences, -1)
    masks = {"torch": None, "megatron": torch.ones(1, 1, asked.length, asked.length, dtype=torch.bool).triu(1)}
    attentions = {"torch": DotProductAttention.forward, "megatron": megatrons}

    def seconds(attention: str) -> float:
        DotProductAttention.forward = attentions[attention]
        began = time.process_time()
        model(tokens[:, :-1], places, masks[attention], labels=tokens[:, 1:]).mean().backward()
        return time.process_time() - began

    for attention in attentions:  # warm
        seconds(attention)
    pairs = [{attention: seconds(attention) for attention in attentions} for _ in range(asked.repeats)]
    ratios = [pair["torch"] / pair["megatron"] for pair in pairs]
    for attention in attentions:
        print(f"{attention:9}{statistics.median(pair[attention] for pair in pairs):.3f} s a step")
    print(f"ratio    {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
