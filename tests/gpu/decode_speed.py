"""Tokens a second of one stream at batch 1 in bf16, of the teacher's and the student's shapes with random weights.

transformers' Llama with a static cache, a step in a CUDA graph. The paper (RTX PRO 6000): 54.42 and 81.41, ratio 1.496.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

SHAPES = {"11B": (50, 14336), "7B": (40, 11264)}
TINY = {"11B": (3, 512), "7B": (2, 384)}
CONTEXT, STEPS, PAPER = 128, 128, 1.496


def run(figure: Callable, rehearsal: bool) -> None:
    from nemo_plugins.models.architecture import Architecture
    from nemo_plugins.planning import decode

    rates, models = {}, {}
    for name, (layers, ffn) in (TINY if rehearsal else SHAPES).items():
        sizes = (128, 4, 2, 32, 512) if rehearsal else (4096, 32, 8, 128, 32128)
        hidden, heads, groups, head_dim, vocabulary = sizes
        models[name] = Architecture(
            num_layers=layers, hidden_size=hidden, ffn_hidden_size=ffn, num_attention_heads=heads, num_query_groups=groups,
            head_dim=head_dim, vocab_size=vocabulary,
        )  # fmt: skip
        rates[name] = rate(models[name], rehearsal)
        figure(f"decoding, {name}", rates[name], "tokens/s")
        figure(f"bytes read, {name}", decode.bytes_moved(models[name], "bf16", CONTEXT) * rates[name] / 1e12, "TB/s")
    planned = decode.speed_up(models["11B"], models["7B"], "bf16", CONTEXT)
    figure("7B to 11B", rates["7B"] / rates["11B"], "", "the plan", planned)
    figure("7B to 11B", rates["7B"] / rates["11B"], "", "the paper", PAPER)


def rate(shape, rehearsal: bool) -> float:
    """Tokens a second, the median of five runs."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

    device, steps = ("cpu", 4) if rehearsal else ("cuda", STEPS)
    config = LlamaConfig(
        vocab_size=shape.vocab_size, hidden_size=shape.hidden_size, intermediate_size=shape.ffn_hidden_size,
        num_hidden_layers=shape.num_layers, num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_query_groups, head_dim=shape.head_dim, max_position_embeddings=4096, rope_theta=1e6,
        attn_implementation="sdpa",
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model = model.to_empty(device=device).eval()
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config, device=device)
    with torch.no_grad():
        for values in model.parameters():
            values.normal_(0, 0.02) if values.dim() > 1 else values.fill_(1)
        cache = StaticCache(config=config, max_cache_len=CONTEXT + STEPS + 8)
        ids = torch.randint(0, shape.vocab_size, (1, CONTEXT), device=device)
        out = model(ids, past_key_values=cache, cache_position=torch.arange(CONTEXT, device=device), use_cache=True)
        token, place = out.logits[:, -1:].argmax(-1), torch.tensor([CONTEXT], device=device)

        def step() -> None:
            where = {"cache_position": place, "position_ids": place[None]}
            logits = model(token, past_key_values=cache, use_cache=True, **where).logits
            token.copy_(logits[:, -1:].argmax(-1))
            place.add_(1)

        again = step if rehearsal else graph(step)
        rates = []
        for _ in range(5):
            place.fill_(CONTEXT)
            wait(device)
            began = time.perf_counter()
            for _ in range(steps):
                again()
            wait(device)
            rates.append(steps / (time.perf_counter() - began))
    return statistics.median(rates)


def graph(step: Callable) -> Callable:
    """The step as a CUDA graph."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        step()
    return recorded.replay


def wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
