"""Attention by torch against Megatron's own: values, gradients, and what is kept for the backward pass."""

from types import SimpleNamespace

import pytest
import torch
from megatron.core.fusions.fused_softmax import FusedScaleMaskSoftmax
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.utils import attention_mask_func
from torch import Tensor

from nemo_plugins.platforms import attention

LENGTH, ROWS, HEADS, WIDTH = 48, 2, 6, 16


def layer(groups: int, kind: AttnMaskType = AttnMaskType.causal, dropout: float = 0.0, window=None) -> SimpleNamespace:
    """What `forward` asks of a `DotProductAttention`, without the process groups that one is built from."""
    softmax = FusedScaleMaskSoftmax(False, False, kind, False, attention_mask_func, True, None, window)
    return SimpleNamespace(
        scale_mask_softmax=softmax,
        softmax_offset=None,
        softmax_scale=WIDTH**-0.5,
        attention_dropout=torch.nn.Dropout(dropout),
        training=True,
        num_attention_heads_per_partition=HEADS,
        num_query_groups_per_partition=groups,
        hidden_size_per_partition=HEADS * WIDTH,
        config=SimpleNamespace(sequence_parallel=True),  # Megatron's own then forks no random state
    )


def inputs(groups: int, queries: int = LENGTH, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(queries + groups)
    sizes = [(queries, HEADS), (LENGTH, groups), (LENGTH, groups)]
    return [torch.randn(length, ROWS, heads, WIDTH, dtype=dtype, requires_grad=True) for length, heads in sizes]


def numbers() -> Tensor:
    """`[rows, s]`: two documents in a window, of other lengths in each row; the padding has a number of its own."""
    document = (torch.arange(LENGTH) > LENGTH // 3).int().repeat(ROWS, 1)
    document[-1] = (torch.arange(LENGTH) > LENGTH // 2).int()
    document[-1, -3:] = -1
    return document


def documents() -> Tensor:
    """`[rows, 1, s, s]`, true where forbidden."""
    later = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    return (numbers().unsqueeze(2) != numbers().unsqueeze(1)).logical_or(later).unsqueeze(1)


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """Megatron allocates its causal mask on CUDA, and its scores in a buffer of a process group's."""
    monkeypatch.setattr(
        "megatron.core.fusions.fused_softmax.get_default_causal_mask", lambda s: torch.ones(s, s).triu(1).bool()
    )
    buffer = SimpleNamespace(get_tensor=lambda shape, dtype, name: torch.empty(shape, dtype=dtype))
    monkeypatch.setattr("megatron.core.parallel_state.get_global_memory_buffer", lambda: buffer)


@pytest.mark.parametrize("groups", [HEADS, 2, 1])
@pytest.mark.parametrize("case", ["causal", "documents", "numbers", "one query", "no mask"])
def test_values_and_gradients_are_megatrons(groups, case):
    queries = 1 if case == "one query" else LENGTH
    mask = documents() if case in ("documents", "numbers") else None
    kind = AttnMaskType.no_mask if case == "no mask" else AttnMaskType.causal
    found = []
    for forward in (attention.forward, attention.megatrons):
        given = inputs(groups, queries)
        own = numbers() if case == "numbers" and forward is attention.forward else mask
        made = forward(layer(groups, kind), *given, own)
        made.mul(torch.linspace(0, 1, made.numel()).view_as(made)).sum().backward()
        found.append([made, *(tensor.grad for tensor in given)])
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("given_as", [None, "mask", "numbers"])
def test_nothing_that_grows_with_the_square_of_the_length_is_kept_for_each_layer(given_as):
    """With a mask one is kept, for all layers together."""
    length, kept = 512, {}
    given = [torch.randn(length, 1, heads, 8, requires_grad=True) for heads in (4, 2, 2)]
    dense, numbered = torch.ones(1, 1, length, length, dtype=torch.bool).triu(1), torch.arange(length)[None] // 100
    mask = {None: None, "mask": dense, "numbers": numbered}[given_as]

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = [attention.forward(layer(2), *given, mask) for _ in range(3)]
    assert len(made) == 3 and len(kept) >= 3
    assert sum(size >= length**2 for size in kept.values()) == (given_as == "mask"), kept


def test_a_mask_is_followed_in_bf16():
    query, key, value = inputs(2, dtype=torch.bfloat16)
    before = attention.forward(layer(2), query, key, value, documents())
    with torch.no_grad():
        key[: LENGTH // 3] += 1  # the first document
    after = attention.forward(layer(2), query, key, value, documents())
    assert not torch.equal(before[: LENGTH // 3], after[: LENGTH // 3])
    assert torch.equal(before[LENGTH // 3 + 1 :, 0], after[LENGTH // 3 + 1 :, 0])


def test_a_token_that_may_see_nothing_gives_numbers():
    mask = documents().clone()
    mask[:, :, -1] = True
    assert attention.forward(layer(2), *inputs(2), mask).isfinite().all()


def test_more_keys_than_queries_want_a_mask():
    with pytest.raises(ValueError, match="as many keys as queries"):
        attention.forward(layer(2), *inputs(2, LENGTH // 2), None)


@pytest.mark.parametrize("special", [{"dropout": 0.1}, {"window": (8, 0)}])
def test_what_torch_does_not_do_goes_to_megatron(monkeypatch, special):
    monkeypatch.setattr(attention, "megatrons", lambda *_: "megatron's own")
    assert attention.forward(layer(2, **special), *inputs(2), None) == "megatron's own"


def test_what_goes_to_megatron_takes_a_mask_with_it(monkeypatch):
    monkeypatch.setattr(attention, "megatrons", lambda layer, query, key, value, mask, *_: mask)
    assert torch.equal(attention.forward(layer(2, window=(8, 0)), *inputs(2), numbers()), documents())
