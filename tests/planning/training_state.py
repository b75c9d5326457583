"""python training_state.py: the bytes of a training of a small model on NeMo's layers, as torch counts them: a line of JSON.

Of each family and precision: `weights`, `gradients` and `optimizer` after a step, `activations` that the layers keep of a
forward pass.
"""

import itertools
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

TOKENS = 256
FAMILIES = ("mistral", "qwen3")  # plain, and with norms of q and k
SIZES = {"num_layers": 3, "hidden_size": 256, "ffn_hidden_size": 704, "num_attention_heads": 8, "num_query_groups": 2,
         "head_dim": 48, "vocab_size": 640}  # fmt: skip


def storages(tensors) -> dict[int, int]:
    """Bytes of each storage that some tensors lie in."""
    found = (tensor.untyped_storage() for tensor in tensors)
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def watched(forward, kept: dict[int, int]):
    """A forward pass that notes the storages of what it keeps for the backward pass."""
    from torch.autograd.graph import saved_tensors_hooks

    def keep(tensor):
        kept.update(storages([tensor]))
        return tensor

    def call(*args, **kwargs):
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            return forward(*args, **kwargs)

    return call


def main() -> None:
    from nemo_plugins import platforms, runs
    from nemo_plugins.runs.prepare import compose

    here = platforms.prepare()
    import torch
    from megatron.core import parallel_state
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
    from megatron.core.optimizer import get_megatron_optimizer
    from megatron.core.transformer.module import Float16Module

    from nemo_plugins.models import nemo
    from nemo_plugins.training import trainer

    torch.distributed.init_process_group("gloo", init_method=f"file://{os.path.abspath('rendezvous')}", rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    found = {}
    for family, precision in itertools.product(FAMILIES, ("bf16", "fp32")):
        own = [f"model.family={family}", f"platform.precision={precision}"]
        cfg = compose(["+model=tiny_pl", *own, *(f"model.{k}={v}" for k, v in SIZES.items())])
        dtype = trainer.dtype(cfg.platform.precision)
        config = nemo.config(cfg.model, runs.architecture(cfg.model), dtype)
        config.use_cpu_initialization = True
        model = config.configure_model(None)
        kept: dict[int, int] = {}
        model.decoder.forward = watched(model.decoder.forward, kept)
        ddp = DistributedDataParallelConfig(use_distributed_optimizer=False, grad_reduce_in_fp32=True)
        model = DistributedDataParallel(config, ddp, Float16Module(config, model) if precision == "bf16" else model)
        adam = get_megatron_optimizer(trainer.optimizer(cfg.platform, here, cfg.pretrain, False).config, [model])
        tokens = torch.randint(SIZES["vocab_size"], (1, TOKENS + 1))
        loss = model(tokens[:, :-1], torch.arange(TOKENS)[None], None, labels=tokens[:, 1:]).float().mean()
        loss.backward()
        weights = storages(model.parameters())
        adam.step()
        states = [value for own in adam.chained_optimizers[0].optimizer.state.values() for value in own.values()]
        masters = [shard for group in adam.chained_optimizers[0].optimizer.param_groups for shard in group["params"]]
        state = storages([*states, *masters])
        found[f"{family} {precision}"] = {
            "weights": sum(weights.values()),
            "gradients": sum(buffer.grad_data.nbytes for buffer in model.buffers),
            "optimizer": sum(size for place, size in state.items() if place not in weights),
            "activations": sum(size for place, size in kept.items() if place not in weights),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
