"""A distillation as NeMo's own script `gpt_distill.py` sets it up: `llm.distill`, its own loss, random tokens."""

from __future__ import annotations

import time
from pathlib import Path


def run(student: Path, teacher: Path, *, length: int, batch: int, steps: int, folder: Path) -> tuple[list[float], int]:
    """Seconds of each step, and the bytes of GPU memory at the peak, 0 on a CPU."""
    from nemo_plugins import platforms

    has = platforms.prepare()
    import torch
    from lightning.pytorch.callbacks import Callback
    from megatron.core.distributed import DistributedDataParallelConfig
    from megatron.core.optimizer import OptimizerConfig
    from nemo import lightning as nl
    from nemo.collections import llm

    from nemo_plugins.models import nemo

    class Clock(Callback):
        def __init__(self) -> None:
            self.at: list[float] = []

        def on_train_batch_end(self, *_: object) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.at.append(time.perf_counter())

    class Data(llm.MockDataModule):
        def setup(self, stage: str = "") -> None:
            """NeMo 2.7.3 hands `create_attention_mask` on as the seed (gpt/data/mock.py): without TE no mask comes."""
            super().setup(stage)
            for one in (self._train_ds, self._validation_ds, self._test_ds):
                one.create_attention_mask = self.create_attention_mask
                one.attention_mask = torch.ones(1, length, length).triu(1).bool()

    gpu, clock = torch.cuda.is_available(), Clock()
    sharded = gpu  # as in `training.trainer`
    ddp = DistributedDataParallelConfig(
        use_distributed_optimizer=sharded, overlap_grad_reduce=sharded, overlap_param_gather=sharded, grad_reduce_in_fp32=True
    )
    trainer = nl.Trainer(
        devices=1,
        accelerator="gpu" if gpu else "cpu",
        max_steps=steps,
        strategy=nl.MegatronStrategy(ddp=ddp, ckpt_async_save=False),
        plugins=nl.MegatronMixedPrecision(precision="bf16-mixed" if gpu else "32", autocast_enabled=False),
        callbacks=[clock],
        limit_val_batches=0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        logger=False,
    )
    tokenizer = nemo.checkpoint_tokenizer(student)
    data = Data(
        seq_length=length,
        micro_batch_size=1,
        global_batch_size=batch,
        tokenizer=tokenizer,
        num_train_samples=steps * batch,
        create_attention_mask=not has.has_transformer_engine,
    )
    adam = OptimizerConfig(optimizer="adam", lr=1e-5, bf16=gpu, use_distributed_optimizer=sharded)
    llm.distill(
        student_model_path=str(student),
        teacher_model_path=str(teacher),
        data=data,
        trainer=trainer,
        log=nl.NeMoLogger(log_dir=str(folder), ckpt=None),
        optim=nl.MegatronOptimizerModule(config=adam),
        tokenizer=tokenizer,
    )
    peak = torch.cuda.max_memory_allocated() if gpu else 0
    return [b - a for a, b in zip(clock.at, clock.at[1:], strict=False)], peak
