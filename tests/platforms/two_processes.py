"""Megatron's own training of a small model by processes on gloo, which the probes hold against one process."""

import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

STEPS, HALF, LENGTH, VOCABULARY = 4, 2, 16, 64
AS_NEMO_SAVES = {
    "singleton_local_shards": False,
    "chained_optim_avoid_prefix": True,
    "distrib_optim_sharding_type": "dp_reshardable",
}


def on_gloo(ranks: int, job: Callable[[], dict]) -> list[dict]:
    """What the job returns in each of so many processes."""
    rendezvous = Path(f"rendezvous-{os.urandom(4).hex()}").absolute()
    results = [rendezvous.with_suffix(f".{rank}") for rank in range(ranks)]
    children = []
    for rank, result in enumerate(results):
        if not (child := os.fork()):
            try:
                torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks)
                torch.save(job(), result)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert not any([os.waitpid(child, 0)[1] for child in children]), "a process failed"
    return [torch.load(result) for result in results]


def build(tensor_parallel: int, sharded: bool, bf16: bool, pipeline_parallel: int = 1):
    """A model of two layers in Megatron's DDP, or this process's part of it, and its AdamW."""
    from megatron.core import parallel_state
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
    from megatron.core.transformer import TransformerConfig
    from megatron.core.transformer.module import Float16Module

    parallel_state.initialize_model_parallel(tensor_parallel, pipeline_parallel)
    kind = torch.bfloat16 if bf16 else torch.float32
    config = TransformerConfig(
        num_layers=2,
        hidden_size=32,
        ffn_hidden_size=64,
        num_attention_heads=4,
        num_query_groups=2,
        normalization="RMSNorm",
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        use_cpu_initialization=True,
        tensor_model_parallel_size=tensor_parallel,
        pipeline_model_parallel_size=pipeline_parallel,
        pipeline_dtype=kind,
        sequence_parallel=tensor_parallel > 1,
        bf16=bf16,
        params_dtype=kind,
        gradient_accumulation_fusion=False,
    )
    torch.manual_seed(0)
    model = GPTModel(
        config,
        get_gpt_layer_local_spec(normalization="RMSNorm"),
        VOCABULARY,
        LENGTH,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
        position_embedding_type="rope",
        share_embeddings_and_output_weights=False,
    )
    ddp = DistributedDataParallelConfig(use_distributed_optimizer=sharded, grad_reduce_in_fp32=True)
    model = DistributedDataParallel(config, ddp, Float16Module(config, model) if bf16 else model)
    adam = OptimizerConfig(
        optimizer="adam", lr=1e-2, clip_grad=0.5, bf16=bf16, params_dtype=kind, use_distributed_optimizer=sharded
    )
    return model, get_megatron_optimizer(adam, [model])


def state(model, optimizer=None, loading: bool = False) -> dict:
    """What a checkpoint has of a model, and of its optimizer."""
    sharded = model.module.sharded_state_dict(metadata=AS_NEMO_SAVES)
    if not optimizer:
        return {"model": sharded}
    own = {name: value for name, value in sharded.items() if not name.endswith("_extra_state")}
    return {"model": sharded, "optimizer": optimizer.sharded_state_dict(own, is_loading=loading, metadata=AS_NEMO_SAVES)}


def weights(folder: str) -> dict:
    """Write those that a model begins with, whatever shares it out."""
    from megatron.core import dist_checkpointing

    model, _ = build(1, sharded=False, bf16=False)
    Path(folder).mkdir()
    dist_checkpointing.save(state(model), folder)
    return {}


def train(
    tensor_parallel: int = 1,
    sharded: bool = True,
    bf16: bool = False,
    begin: str | None = None,
    resume: str | None = None,
    save: str | None = None,
) -> dict:
    """Train to `STEPS` from the weights in `begin`, or from the checkpoint of `HALF` that an earlier one wrote to `save`.

    Returns: `losses` and `grad_norms` of each step; `gradients` of the last one and `weights`, of what every tensor-parallel
    rank holds whole; how many numbers of a moment this process keeps, `shard`; its `state` of `HALF`, as saved or loaded.
    """
    from megatron.core import dist_checkpointing, parallel_state
    from megatron.core.distributed import finalize_model_grads

    model, optimizer = build(tensor_parallel, sharded, bf16)
    if begin:
        model.load_state_dict(dist_checkpointing.load(state(model), begin)["model"])
        optimizer.reload_model_params()
    if resume:
        loaded = dist_checkpointing.load(state(model, optimizer, loading=True), resume)
        model.load_state_dict(loaded["model"])
        optimizer.load_state_dict(loaded["optimizer"])
    half = kept(model, optimizer) if resume else {}
    copies, copy = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    losses, norms = [], []
    for step in range(HALF if resume else 0, STEPS):
        tokens = torch.randint(VOCABULARY, (4, LENGTH + 1), generator=torch.Generator().manual_seed(step))[copy::copies]
        model.zero_grad_buffer()
        optimizer.zero_grad()
        loss = model(tokens[:, :-1], torch.arange(LENGTH).expand(len(tokens), -1), None, labels=tokens[:, 1:]).float().mean()
        loss.backward()
        finalize_model_grads([model])
        norms.append(float(optimizer.step()[1]))
        loss = loss.detach() / copies
        torch.distributed.all_reduce(loss, group=parallel_state.get_data_parallel_group())
        losses.append(float(loss))
        if save and step + 1 == HALF:
            if torch.distributed.get_rank() == 0:
                Path(save).mkdir()
            torch.distributed.barrier()
            dist_checkpointing.save(state(model, optimizer), save)
            half = kept(model, optimizer)
    unsplit = {name: each for name, each in model.named_parameters() if not getattr(each, "tensor_model_parallel", False)}
    return {
        "losses": losses,
        "grad_norms": norms,
        "gradients": {name: each.main_grad.clone() for name, each in unsplit.items()},
        "weights": {name: each.detach().clone() for name, each in unsplit.items()},
        "state": half,
        "shard": sum(own["exp_avg"].numel() for own in optimizer.chained_optimizers[0].optimizer.state.values()),
    }


def kept(model, optimizer) -> dict[str, torch.Tensor]:
    """This process's shard of each parameter's fp32 weights and moments, flat."""
    [own] = optimizer.chained_optimizers
    parameters = ((name, each) for name, each in model.named_parameters() if each in own.model_param_group_index_map)
    return {
        f"{name} {kind}": shard.detach().clone().flatten()
        for name, each in parameters
        for kind, shard in own._get_main_param_and_optimizer_states(each).items()
    }


def close(one: dict, other: dict, *keys: str, last: int = STEPS, **tolerance: float) -> None:
    """Whether the last so many steps' numbers, and the tensors of that name, are the same up to a tolerance."""
    for key in keys:
        mine, theirs = (values[key][-last:] if isinstance(values[key], list) else values[key] for values in (one, other))
        shared = {name: mine[name] for name in theirs} if isinstance(theirs, dict) else mine
        torch.testing.assert_close(theirs, shared, **tolerance, msg=lambda text, key=key: f"{key}: {text}")


def data_parallel() -> None:
    """Two copies share out the optimizer's state and train what one trains; resumed they go on to the bit, or one alone does,
    from their weights and moments to the bit."""
    for bf16 in (True, False):
        job, half, tolerance = partial(train, bf16=bf16), f"half-{bf16}", {"rtol": 1e-2 if bf16 else 1e-4, "atol": 1e-4}
        whole, *_ = on_gloo(2 if bf16 else 1, partial(job, sharded=False))  # rounding to bf16 goes by a copy's batch
        both = on_gloo(2, partial(job, save=half))
        shares = [copy["shard"] for copy in both]
        assert sum(shares) == whole["shard"] and max(shares) < 0.6 * whole["shard"]
        for copy, resumed in zip(both, on_gloo(2, partial(job, resume=half)), strict=True):
            close(whole, copy, "losses", "grad_norms", "weights", **tolerance)
            close(copy, resumed, "losses", "grad_norms", "weights", last=STEPS - HALF, rtol=0, atol=0)
    [alone] = on_gloo(1, partial(job, resume=half))
    assert max(len(copy["state"]) for copy in both) < len(alone["state"])
    for name, loaded in alone["state"].items():  # to the bit what both held
        assert torch.equal(loaded, torch.cat([copy["state"][name] for copy in both if name in copy["state"]])), name
    close(whole, alone, "losses", "grad_norms", "weights", last=STEPS - HALF, **tolerance)


def tensor_parallel() -> None:
    """Two ranks with a part of each sequence have one process's losses, gradients and weights, the norms' among them."""
    on_gloo(1, partial(weights, "start"))
    [one] = on_gloo(1, partial(train, sharded=False, begin="start"))
    for rank in on_gloo(2, partial(train, tensor_parallel=2, begin="start")):
        assert any("layernorm" in name for name in rank["gradients"])
        close(one, rank, "losses", "grad_norms", "gradients", "weights", rtol=1e-4, atol=1e-4)


def gather(begin: str, tensor_parallel: int = 1, pipeline_parallel: int = 1) -> dict[str, torch.Tensor]:
    """What an export is made of, from the weights in `begin`."""
    from megatron.core import dist_checkpointing

    from nemo_plugins.models import whole

    model, _ = build(tensor_parallel, sharded=False, bf16=False, pipeline_parallel=pipeline_parallel)
    model.load_state_dict(dist_checkpointing.load(state(model), begin)["model"])
    return whole.gather([model])


def gathered() -> None:
    """The first of two processes that share out a model has one process's weights, by its names; the second has none."""
    on_gloo(1, partial(weights, "start"))
    [one] = on_gloo(1, partial(gather, "start"))
    assert {name for name in one if ".layers.1." in name} and "output_layer.weight" in one
    for layout in ("tensor_parallel", "pipeline_parallel"):
        first, second = on_gloo(2, partial(gather, "start", **{layout: 2}))
        assert not second and first.keys() == one.keys(), layout
        assert not [name for name in one if not torch.equal(one[name], first[name])], layout
