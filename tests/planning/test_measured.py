"""The formulas that plans are made of, held against what a real model has, does and keeps.

The model is one of transformers' in fp32 on a CPU, with sizes that no two of which can be mixed up. Where the formula leaves
something out on purpose, the test adds just that, so that every comparison is exact.
"""

from dataclasses import replace

import pytest

from nemo_plugins.configs.schema import PlatformConfig
from nemo_plugins.models.architecture import Architecture
from nemo_plugins.models.families import FAMILIES
from nemo_plugins.planning import hf_folder, memory

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

MODEL = Architecture(3, 256, 704, 8, 2, 48, 640)  # head_dim is not hidden / heads
TOKENS = 64


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def attention(request):
    return request.param


@pytest.fixture(scope="module")
def make():
    def build(attention="eager", family="mistral", **changes):
        config = transformers.CONFIG_MAPPING[FAMILIES[family].model_type](
            hidden_size=MODEL.hidden_size,
            intermediate_size=MODEL.ffn_hidden_size,
            num_hidden_layers=MODEL.num_layers,
            num_attention_heads=MODEL.num_attention_heads,
            num_key_value_heads=MODEL.num_query_groups,
            head_dim=MODEL.head_dim,
            vocab_size=MODEL.vocab_size,
            sliding_window=None,
            attn_implementation=attention,
            **FAMILIES[family].only,
            **changes,
        )
        return transformers.AutoModelForCausalLM.from_config(config)

    return build


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_tensors(make, family, tied):
    model, theirs = replace(MODEL, tied_embeddings=tied, family=family), make(family=family, tie_word_embeddings=tied)
    assert {name: tuple(weight.shape) for name, weight in theirs.named_parameters()} == hf_folder.expected(model)
    assert sum(weight.numel() for weight in theirs.parameters()) == model.parameters()


def test_flops_of_a_forward_pass_and_of_the_backward_pass(make):
    from torch.utils.flop_counter import FlopCounterMode

    model = make("eager")  # FlopCounterMode sees the CPU's fused attention as no FLOPs at all
    ids = torch.randint(0, MODEL.vocab_size, (1, TOKENS))
    with FlopCounterMode(display=False) as forward:
        logits = model(ids, use_cache=False).logits
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    # the rotary table is a product of positions and frequencies: 2 FLOPs each, made once, without gradient
    table = 2 * TOKENS * MODEL.head_dim // 2
    # eager attention multiplies the masked half, too: s positions for every token where a causal one has (s + 1) / 2
    width = MODEL.num_attention_heads * MODEL.head_dim
    masked = MODEL.num_layers * 2 * 2 * width * (TOKENS * TOKENS - TOKENS * (TOKENS + 1) // 2)
    assert forward.get_total_flops() == MODEL.flops_per_token(TOKENS) * TOKENS + masked + table
    assert backward.get_total_flops() == 2 * (forward.get_total_flops() - table)


def saved_bytes(layer, hidden, positions):
    """Bytes that autograd keeps of one layer's forward pass: each storage once, weights and the rotary table left out."""
    left_out = {tensor.untyped_storage().data_ptr() for tensor in [*layer.parameters(), *positions]}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in left_out:
            storages[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(hidden, attention_mask=None, position_ids=torch.arange(TOKENS)[None], position_embeddings=positions)
    total = sum(storage.nbytes() for storage in storages.values())
    del output
    return total


def test_activations_of_a_layer(make):
    model, batch = make("sdpa"), 2
    hidden = torch.randn(batch, TOKENS, MODEL.hidden_size, requires_grad=True)
    positions = model.model.rotary_emb(hidden, torch.arange(TOKENS)[None])
    tokens = batch * TOKENS
    # beyond the formula: fp32 statistics (one a token of each norm, one a token and head of the attention), and the input of
    # the norm's own weight, which Hugging Face's two-step norm keeps and one of a single kernel does not. Of what Megatron's
    # layers keep Hugging Face's have no q, k and v in one tensor, which v holds, no sines and cosines of their own, no up twice
    statistics = tokens * 4 * (2 + MODEL.num_attention_heads)
    unfused = 2 * tokens * MODEL.hidden_size * 4
    measured = saved_bytes(model.model.layers[0], hidden, positions)
    megatrons = (MODEL.num_attention_heads + MODEL.num_query_groups + 4) * MODEL.head_dim + MODEL.ffn_hidden_size
    assert measured == memory.layer_activations(MODEL, tokens, 4) - 4 * tokens * megatrons + statistics + unfused


def test_key_value_cache(make, attention):
    cache = transformers.DynamicCache()
    with torch.no_grad():
        make(attention)(torch.randint(0, MODEL.vocab_size, (1, TOKENS)), past_key_values=cache, use_cache=True)
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) == MODEL.kv_cache_bytes(TOKENS, 4)


def size(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("width", [2, 4])
def test_state_of_a_training_step(make, width):
    """Working weights, fp32 gradients, AdamW on fp32 weights: master copies beside bf16 ones, in fp32 the working ones."""
    working = make()
    masters = [torch.nn.Parameter(weight.detach().clone()) for weight in working.parameters()]
    if width == 2:
        working = working.to(torch.bfloat16)
    for master in masters:
        master.grad = torch.ones_like(master)
    optimizer = torch.optim.AdamW(masters)
    optimizer.step()
    moments = [state[key] for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]

    from nemo_plugins.configs.schema import TrainConfig

    train = TrainConfig(max_steps=1, seq_length=TOKENS, micro_batch_size=1, global_batch_size=1, lr=1e-4, min_lr=0,
                        warmup_steps=0, checkpoint_every=1, validate_every=1)  # fmt: skip
    need = memory.training(MODEL, train, PlatformConfig(), width)
    assert need.weights == size(working.parameters())
    assert need.gradients == size(master.grad for master in masters)
    assert need.optimizer == size(moments) + (size(masters) if width == 2 else 0)
    if width == 2:  # in fp32 the formula counts a second copy of the weights, which Megatron's optimizer writes
        assert memory.checkpoint(MODEL, width, optimizer=True) == size(working.parameters()) + size(moments) + size(masters)
