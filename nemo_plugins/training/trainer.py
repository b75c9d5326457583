"""The one trainer of every stage that learns: NeMo's Lightning trainer and Megatron strategy from a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig
from nemo import lightning as nl
from nemo.lightning.pytorch.plugins.mixed_precision import DtypeConfig

from nemo_plugins import runs
from nemo_plugins.configs.schema import PlatformConfig, Precision, Recompute, TrainConfig
from nemo_plugins.platforms import Platform, arithmetic
from nemo_plugins.training import checkpoints, process_groups


def precision(platform: PlatformConfig, here: Platform) -> Precision:
    """What `platform.precision` comes to here."""
    return arithmetic.precision(platform, here.accelerator != "cpu")


def dtype(name: Precision) -> torch.dtype:
    """Type of the working weights."""
    return torch.bfloat16 if name is Precision.bf16 else torch.float32


def sharded_optimizer(platform: PlatformConfig, here: Platform, resumed: Path | None = None) -> bool:
    """Whether the copies of the model share out the optimizer's state, by Megatron's distributed optimizer.

    Args:
        resumed: checkpoint to go on from. `auto` goes by it: one with a whole state cannot be loaded into shares.
    Raises: runs.UserError: it holds the state otherwise than `platform.shard_optimizer` says.
    """
    asked = platform.shard_optimizer
    if resumed is None:
        return here.accelerator == "gpu" if asked == "auto" else bool(asked)
    held = checkpoints.shares_optimizer(resumed)
    if asked not in ("auto", held):
        how = "shared out" if held else "whole"
        raise runs.UserError(
            f"platform.shard_optimizer={str(asked).lower()}: {resumed} holds the optimizer's state {how}",
            f"expected platform.shard_optimizer={str(held).lower()} or auto; force=true does the stage again from its start",
        )
    return held


@dataclass
class _Kinds(DtypeConfig):
    """What NeMo's strategy writes into the model's configuration, whatever its checkpoint says."""

    cross_entropy_loss_fusion: bool = False  # the fused one casts the logits' gradient to bf16: fused_cross_entropy.py:79


def mixed_precision(name: Precision) -> nl.MegatronMixedPrecision:
    """NeMo's precision plugin: fp32, or bf16 weights with fp32 master weights and fp32 gradient reduction."""
    kind = dtype(name)
    plugin = nl.MegatronMixedPrecision(
        precision="bf16-mixed" if name is Precision.bf16 else "32",
        params_dtype=kind,
        pipeline_dtype=kind,
        autocast_enabled=False,
        grad_reduce_in_fp32=True,
    )
    plugin.dtype_config = _Kinds(**vars(plugin.dtype_config), cross_entropy_loss_fusion=kind is torch.bfloat16)
    return plugin


def build(
    platform: PlatformConfig,
    here: Platform,
    train: TrainConfig,
    heldout_batches: int,
    loggers: list,
    validate_first: bool = False,
    sharded: bool = False,
) -> nl.Trainer:
    """A trainer for `train.max_steps` steps with validation on `heldout_batches` global batches.

    Callbacks are added to `trainer.callbacks` afterwards: what the constructor is given, NeMo writes into each checkpoint.

    Args:
        validate_first: whether to validate before step 1, too, as Lightning's sanity check, which leaves random numbers and
            data as they were. NeMo leaves it out of a pipeline, and Lightning of a run that is resumed.
        sharded: `sharded_optimizer`. On GPUs, where communication and arithmetic go on at once, gradients are then reduced
            during the backward pass and parameters gathered during the next forward pass.
    """
    name = precision(platform, here)
    overlap = sharded and here.accelerator == "gpu"
    strategy = nl.MegatronStrategy(
        tensor_model_parallel_size=platform.tensor_parallel,
        pipeline_model_parallel_size=platform.pipeline_parallel,
        context_parallel_size=platform.context_parallel,
        sequence_parallel=platform.tensor_parallel > 1,
        pipeline_dtype=dtype(name) if platform.pipeline_parallel > 1 else None,
        ckpt_async_save=False,  # ModelOpt's distillation blocks asynchronous saves, and a save that returned is whole
        replace_progress_bar=False,
        ddp=DistributedDataParallelConfig(
            use_distributed_optimizer=sharded,
            overlap_grad_reduce=overlap,
            overlap_param_gather=overlap,
            check_for_nan_in_grad=False,  # training/bad_steps.py looks before each update, and may skip it
            grad_reduce_in_fp32=True,
        ),
    )
    trainer = nl.Trainer(
        devices=platform.devices,
        num_nodes=platform.nodes,
        accelerator=here.accelerator,
        strategy=strategy,
        plugins=mixed_precision(name),
        max_steps=train.max_steps,
        val_check_interval=min(train.validate_every, train.max_steps),
        limit_val_batches=heldout_batches,
        num_sanity_val_steps=heldout_batches if validate_first else 0,
        log_every_n_steps=train.log_every,
        use_distributed_sampler=False,
        enable_checkpointing=False,  # ours is added as a callback
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=loggers or False,
    )
    process_groups.extend(strategy, platform.process_group_minutes)  # now: NeMo has copied what it writes into checkpoints
    return trainer


def recompute(config, which: Recompute) -> None:
    """Tell a model's configuration which activations to compute again: `full` keeps each layer's input and nothing else."""
    if which is Recompute.full:
        config.recompute_granularity = "full"
        config.recompute_method = "uniform"
        config.recompute_num_layers = 1
    if which is Recompute.selective:
        config.recompute_granularity = "selective"


def optimizer(platform: PlatformConfig, here: Platform, train: TrainConfig, sharded: bool) -> nl.MegatronOptimizerModule:
    """AdamW with linear warm-up and cosine decay from `lr` to `min_lr` over `max_steps`; its state `sharded` or whole."""
    name = precision(platform, here)
    config = OptimizerConfig(
        optimizer="adam",  # Megatron's "adam" decouples weight decay: AdamW
        lr=train.lr,
        min_lr=train.min_lr,
        weight_decay=train.weight_decay,
        adam_beta1=train.adam_beta1,
        adam_beta2=train.adam_beta2,
        clip_grad=train.clip_grad,
        bf16=name is Precision.bf16,
        params_dtype=dtype(name),
        use_distributed_optimizer=sharded,
    )
    schedule = nl.lr_scheduler.CosineAnnealingScheduler(
        max_steps=train.max_steps, warmup_steps=train.warmup_steps, constant_steps=0, min_lr=train.min_lr
    )
    return nl.MegatronOptimizerModule(config=config, lr_scheduler=schedule)


def resume(checkpoint: Path | None) -> nl.AutoResume:
    """Continue from `checkpoint` with everything it holds, or start as NeMo would."""
    if checkpoint is None:
        return nl.AutoResume()
    # Without `load_artifacts=False` NeMo looks for the tokenizer in a folder that it only knows under `resume_if_exists`
    # (nemo/lightning/resume.py:138); the tokenizer is handed over anyway.
    untouched = nl.RestoreConfig(path=str(checkpoint), load_artifacts=False)
    return nl.AutoResume(resume_from_path=str(checkpoint), restore_config=untouched)
