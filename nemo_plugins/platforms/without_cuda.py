"""NeMo, Megatron-Core and ModelOpt on CPU with gloo: each place that takes a CUDA device for granted.

Nothing here sits on every torch call. Where a library writes a device into its code, that one function is reworded; where it
asks `torch.cuda`, the answer is the CPU. Line numbers are those of NeMo 2.7.3, megatron-core 0.15.3 and ModelOpt 0.37.0.
"""

import contextlib
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from nemo_plugins.platforms.adjustments import Adjustments, reword

adjustment = Adjustments()
apply = adjustment.apply

CPU = torch.device("cpu")


def _on_cpu(text: str) -> str:
    """A device or tensor type of CUDA's → the CPU's; any other text as it is."""
    return "cpu" if text in ("cuda", "gpu") else text.replace("torch.cuda.", "torch.", 1)


@adjustment("current_device", because="some 60 calls such as megatron/core/tensor_parallel/layers.py:865 allocate there")
def current_device() -> None:
    torch.cuda.current_device = lambda: CPU


@adjustment("tensor_cuda", because="nemo/collections/llm/gpt/model/base.py:103 moves a batch, megatron_parallel.py:577 a model")
def tensor_cuda() -> None:
    torch.Tensor.cuda = lambda self, *args, **kwargs: self


@adjustment("synchronize", because="megatron/core/dist_checkpointing/strategies/filesystem_async.py:230 waits for copies")
def synchronize() -> None:
    torch.cuda.synchronize = lambda device=None: None


@adjustment("stream", because="nemo/lightning/megatron_parallel.py:617 initialises DDP on a side stream")
def stream() -> None:
    # torch.cuda.stream(None) does nothing. The class itself stays, since annotations and torch.compile refer to it.
    torch.cuda.Stream.__new__ = staticmethod(lambda cls, *args, **kwargs: None)


@adjustment("event", because="megatron/core/inference/.../text_generation_controller.py:804 times tokens by events")
def event() -> None:
    from megatron.core.inference.text_generation_controllers import text_generation_controller

    class WallClockEvent:
        """torch.cuda.Event by the wall clock; elapsed_time in milliseconds."""

        def __init__(self, enable_timing: bool = False) -> None:
            self.seconds = 0.0

        def record(self) -> None:
            self.seconds = time.perf_counter()

        def synchronize(self) -> None:
            """The CPU has nothing to wait for."""

        def elapsed_time(self, end: "WallClockEvent") -> float:
            return 1e3 * (end.seconds - self.seconds)

    cuda = _standing_in_for(torch.cuda, Event=WallClockEvent)
    text_generation_controller.torch = _standing_in_for(torch, cuda=cuda)


@adjustment("long_tensor", because="nemo/collections/llm/gpt/data/utils.py:777 counts ranks in a torch.cuda.LongTensor")
def long_tensor() -> None:
    from nemo.collections.llm.gpt.data import utils

    utils.torch = _standing_in_for(torch, cuda=_standing_in_for(torch.cuda, LongTensor=torch.LongTensor))


@adjustment("logged_values", because="nemo/lightning/pytorch/strategies/megatron_strategy.py:801 pins what it logs")
def logged_values() -> None:
    from nemo.lightning.pytorch.plugins import data_sampler
    from nemo.lightning.pytorch.strategies import megatron_strategy

    def tensor(value: Any, *, pin_memory: bool = False, **kwargs: object) -> object:
        if not pin_memory:
            return torch.tensor(value, **kwargs)
        # Both files only ever write torch.tensor(value, pin_memory=True).to("cuda", non_blocking=True).
        here = value.detach().clone() if torch.is_tensor(value) else torch.tensor(value)
        return SimpleNamespace(to=lambda device, non_blocking=False: here)

    for module in (megatron_strategy, data_sampler):
        module.torch = _standing_in_for(torch, tensor=tensor)


@adjustment("token_count", because='megatron/core/pipeline_parallel/schedules.py:573 counts tokens on device="cuda"')
def token_count() -> None:
    from megatron.core.pipeline_parallel import schedules

    for function in (
        schedules.forward_backward_no_pipelining,
        schedules.forward_backward_pipelining_with_interleaving,
        schedules.forward_backward_pipelining_without_interleaving,
    ):
        reword(function, _on_cpu)


@adjustment("compiler", because="megatron/core/jit.py:13 fuses with torch.compile, which wants a C++ compiler and a minute")
def compiler() -> None:
    # On a CPU the compiled functions are no faster than these few operations, and a laptop need not have a compiler.
    import torch._dynamo

    torch._dynamo.config.disable = True


@adjustment("gradient_clipping", because="megatron/core/optimizer/clip_grads.py:167 asserts a torch.cuda.FloatTensor")
def gradient_clipping() -> None:
    from megatron.core import utils
    from megatron.core.optimizer import clip_grads

    for function in (
        clip_grads.get_grad_norm_fp32,
        clip_grads.clip_grad_by_total_norm_fp32,
        clip_grads.count_zeros_fp32,
        utils.local_multi_tensor_l2_norm,  # stands in for Apex's and Transformer Engine's
    ):
        reword(function, _on_cpu)


@adjustment("fp32_optimizer", because='megatron/core/optimizer/optimizer.py:903 keeps its scale on device="cuda"')
def fp32_optimizer() -> None:
    from megatron.core.optimizer import optimizer

    reword(optimizer.FP32Optimizer.__init__, _on_cpu)


@adjustment("mixed_precision_optimizer", because="megatron/core/optimizer/optimizer.py:667 tells them by CUDA types")
def mixed_precision_optimizer() -> None:
    from megatron.core.optimizer import optimizer

    reword(optimizer.MixedPrecisionOptimizer.__init__, _on_cpu)
    reword(optimizer.Float16OptimizerWithFloat16Params.__init__, _on_cpu)


@adjustment("distributed_optimizer", because="megatron/core/optimizer/distrib_optimizer.py:357 tells them by CUDA types")
def distributed_optimizer() -> None:
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    reword(DistributedOptimizer._build_model_and_main_param_groups, _on_cpu)


@adjustment("loaded_tensors", because="nemo/lightning/io/pl.py:495 asserts that CUDA is initialised")
def loaded_tensors() -> None:
    from nemo.lightning.io import pl

    pl._fix_tensors_device = lambda checkpoint: checkpoint


@adjustment(
    "exchanged_tensors", because="megatron/core/dist_checkpointing/exchange_utils.py:113 receives other ranks' tensors on CUDA"
)
def exchanged_tensors() -> None:
    from megatron.core.dist_checkpointing import exchange_utils

    reword(exchange_utils._get_empty_tensor_for_exchange, _on_cpu)
    reword(exchange_utils.exchange_loaded_tensors_gather_rounds, _on_cpu)


@adjustment("modelopt_trainer", because='nemo/collections/llm/modelopt/model_utils.py:174 asks for accelerator="gpu"')
def modelopt_trainer() -> None:
    from nemo.collections.llm.modelopt import model_utils

    reword(model_utils.setup_trainer_and_restore_model_with_modelopt_spec, _on_cpu)


@adjustment("depth_pruning", because="modelopt/torch/nas/plugins/megatron.py:1430 gathers a 0-dim tensor, which gloo refuses")
def depth_pruning() -> None:
    gather = torch.distributed.all_gather_into_tensor

    def all_gather_into_tensor(output_tensor, input_tensor, *args, **kwargs):
        return gather(output_tensor, input_tensor.reshape(1) if input_tensor.dim() == 0 else input_tensor, *args, **kwargs)

    torch.distributed.all_gather_into_tensor = all_gather_into_tensor


@adjustment("random_states", because="megatron/core/tensor_parallel/random.py:205 forks the generator of a CUDA device")
def random_states() -> None:
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    @contextlib.contextmanager
    def fork(self: CudaRNGStatesTracker, name: str = "model-parallel-rng") -> Iterator[None]:
        outside = torch.get_rng_state()
        if name in self.states_:
            torch.set_rng_state(self.states_[name])
        else:
            # NeMo only seeds the tracker where there is a device (megatron_init.py:238). The offset is Megatron's own
            # (random.py:359): without one, tensor-parallel ranks would draw the same shard twice.
            torch.manual_seed(torch.initial_seed() + 2718 + parallel_state.get_tensor_model_parallel_rank())
        try:
            yield
        finally:
            self.states_[name] = torch.get_rng_state()
            torch.set_rng_state(outside)

    CudaRNGStatesTracker.fork = fork


@adjustment("recomputation", because="megatron/core/tensor_parallel/random.py:383 keeps the random state of a CUDA device")
def recomputation() -> None:
    from megatron.core.tensor_parallel import random

    random._get_cuda_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    random._set_cuda_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)


def _standing_in_for(module: ModuleType, **changes: object) -> ModuleType:
    """A module that has all of `module`'s names, some of them changed, for one file of a library to use in its stead."""
    double = ModuleType(module.__name__)
    double.__dict__.update(module.__dict__)
    double.__dict__.update(changes)
    return double
