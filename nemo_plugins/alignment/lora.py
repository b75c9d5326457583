"""Low-rank adapters by NeMo's PEFT, merged into a whole checkpoint, so that every later stage takes it like any other.

What NeMo lacks: its `merge_lora` takes the weights for bf16 and keeps the tokenizer in a folder that all users share.

python -m nemo_plugins.alignment.lora BASE ADAPTERS TO    merges, in this process, on the CPU
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from torch import distributed

from nemo_plugins import platforms, runs
from nemo_plugins.alignment.first_rank import on_first_rank
from nemo_plugins.configs.schema import LoraConfig
from nemo_plugins.configs.store import REPOSITORY
from nemo_plugins.runs.atomic import whole

OF_THE_JOB = ("RANK", "LOCAL_", "GROUP_", "ROLE_", "WORLD_SIZE", "MASTER_", "TORCHELASTIC", "SLURM_", "NVTE_")


def adapters(lora: LoraConfig):
    """NeMo's LoRA of a configuration; None where all weights are trained."""
    if lora.dim is None:
        return None
    from nemo.collections.llm.peft import LoRA

    return LoRA(target_modules=list(lora.target_modules), dim=lora.dim, alpha=lora.alpha, dropout=lora.dropout)


def merge(base: Path, trained: Path, to: Path) -> None:
    """Merge adapters into the checkpoint that they were trained on, in a process of its own that is no part of this job.

    Whole or not at all; the model is in host memory once. One process of the job does it, and all wait for it and hear how it
    went: srun would end it a minute after the first of them is done.

    Raises:
        runs.Failed: the process failed.
    """
    on_first_rank(distributed.group.WORLD, lambda: _start(base, trained, to))


def _start(base: Path, trained: Path, to: Path) -> None:
    log = to.with_name("merge.log")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_JOB)}
    with open(log, "wb") as said:
        command = [sys.executable, "-m", __name__, str(base), str(trained), str(to)]
        environment["PYTHONPATH"] = str(REPOSITORY)
        code = subprocess.run(command, env=environment, stdout=said, stderr=subprocess.STDOUT).returncode
    if code:
        raise runs.Failed(
            f"merging {trained} into {base} ended with exit code {code}: {log}",
            "the adapters are whole; the same command tries again",
        )


def _merge(base: Path, trained: Path, to: Path) -> None:
    platforms.prepare()
    from nemo.collections.llm.peft.lora import LoRALinear, LoRAMerge
    from nemo.lightning import io
    from nemo.lightning.ckpt_utils import ckpt_to_context_subdir
    from nemo.lightning.io.pl import TrainerContext, ckpt_to_weights_subdir

    from nemo_plugins.models import conversion, nemo

    module, trainer = conversion.load(base, nemo.stored_dtype(base))
    module.trainer = trainer
    io.load_context(ckpt_to_context_subdir(str(trained)), subpath="model.model_transform")(module)
    weights = ckpt_to_weights_subdir(trained, is_saving=False)
    strategy = trainer.strategy
    known = strategy.megatron_parallel.sharded_state_dict(
        metadata=strategy.unwrapped_checkpoint_io.load_content_metadata(weights)
    )
    wanted = {key: value for key, value in known.items() if ".adapter." in key}
    strategy.load_model_state_dict(strategy.checkpoint_io.load_checkpoint(weights, sharded_state_dict=wanted), strict=False)
    LoRAMerge()(module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.to_wrap)
    with whole(to) as partial:
        trainer.save_checkpoint(partial, weights_only=True)
        if strategy.async_save:
            strategy.checkpoint_io.maybe_finalize_save_checkpoint(blocking=True)
        TrainerContext.from_trainer(trainer).io_dump(partial / "context", yaml_attrs=["model"])


if __name__ == "__main__":
    _merge(*map(Path, sys.argv[1:]))
